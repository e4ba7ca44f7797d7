"""Predictions over time -> artifact regions."""

from .detection import Detection, detect
from .evidence import Detector, Evidence
from .regions import Region
from .space import Space
from .watcher import Watcher

__all__ = ["Detection", "Detector", "Evidence", "Region", "Space", "Watcher", "detect"]
