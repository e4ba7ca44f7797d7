"""ASCED: detects diffusion artifacts while an image is being sampled, and corrects them in the same run.

The method of Cao, Zhao, Patras and Gong, "Temporal Score Analysis for Understanding and Correcting Diffusion
Artifacts", CVPR 2025, arXiv 2503.16218. This package needs torch, numpy and cv2; it does
not depend on ComfyUI.
"""

from .correct.corrector import Corrector
from .correct.renoising import apply_ttc, item_generator
from .decision import Decision
from .detect.detection import Detection, detect
from .detect.regions import Region
from .detect.space import Space
from .detect.watcher import Watcher
from .noise import DiscreteSchedule, NoiseLevel, edm_level, flow_level, renoise, vp_level
from .report.report import ImageReport, Report, RunFacts, unwatched_report
from .settings import CorrectionSettings, DetectionSettings
from .trajectory import Trajectory
from .window import Schedule, Window, find_window

__all__ = [
    "CorrectionSettings",
    "Corrector",
    "Decision",
    "Detection",
    "DetectionSettings",
    "DiscreteSchedule",
    "ImageReport",
    "NoiseLevel",
    "Region",
    "Report",
    "RunFacts",
    "Schedule",
    "Space",
    "Trajectory",
    "Watcher",
    "Window",
    "apply_ttc",
    "detect",
    "edm_level",
    "find_window",
    "flow_level",
    "item_generator",
    "renoise",
    "unwatched_report",
    "vp_level",
]
