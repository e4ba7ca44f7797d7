"""Names that ComfyUI reads when it loads."""

from enum import Enum

from . import functional as functional


class InterpolationMode(Enum):
    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
