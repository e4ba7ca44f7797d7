"""Stable Diffusion WebUI (Forge, reForge, AUTOMATIC1111): one job, its sampling runs, and what is shown of them."""

from .run import Run, Task
from .session import Session, detection_at

__all__ = ["Run", "Session", "Task", "detection_at"]
