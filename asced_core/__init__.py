"""ASCED: detects diffusion artifacts while an image is being sampled, and corrects them in the same run.

The method of Cao, Zhao, Patras and Gong, "Temporal Score Analysis for Understanding and Correcting Diffusion
Artifacts", CVPR 2025, arXiv 2503.16218. It needs torch, numpy and cv2, for calibrations also safetensors and for plots
matplotlib; it does not depend on ComfyUI.
"""

from .correct import Corrector, apply_ttc, item_generator
from .decision import Decision
from .detect import Detection, Region, Space, Watcher, detect
from .noise import DiscreteSchedule, FlowSchedule, NoiseLevel, clean_image, edm_level, flow_level, renoise, vp_level
from .report import ImageReport, Report, RunFacts, unwatched_report
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
    "FlowSchedule",
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
    "clean_image",
    "detect",
    "edm_level",
    "find_window",
    "flow_level",
    "item_generator",
    "renoise",
    "unwatched_report",
    "vp_level",
]
