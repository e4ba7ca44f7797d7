"""ASCED: finds diffusion artifacts while an image is being sampled, and corrects them on the spot.

The method of Cao, Zhao, Patras and Gong, "Temporal Score Analysis for Understanding and Correcting Diffusion
Artifacts", CVPR 2025, arXiv 2503.16218. This package needs torch, numpy and cv2 and knows no host.
"""

from .correct.renoising import apply_ttc, item_generator
from .detect.detection import Detection, detect
from .detect.regions import Region
from .detect.space import Signal
from .noise import NoiseLevel, edm_level, flow_level, renoise, vp_level
from .report.facts import ImageReport
from .report.report import Report
from .settings import CorrectionSettings, DetectionSettings
from .trajectory import Trajectory
from .window import find_window

__all__ = [
    "CorrectionSettings",
    "Detection",
    "DetectionSettings",
    "ImageReport",
    "NoiseLevel",
    "Region",
    "Report",
    "Signal",
    "Trajectory",
    "apply_ttc",
    "detect",
    "edm_level",
    "find_window",
    "flow_level",
    "item_generator",
    "renoise",
    "vp_level",
]
