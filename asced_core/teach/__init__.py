"""Teaches a detector with faults planted into a checkpoint's own runs, or into pictures that are as they should be."""

from .certify import certified
from .grown import grow_faults
from .material import Material
from .pictures import show_pictures
from .taught import Taught, TaughtFacts
from .training import Course, Training

__all__ = ["Course", "Material", "Taught", "TaughtFacts", "Training", "certified", "grow_faults", "show_pictures"]
