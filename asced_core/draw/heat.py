"""A color map that is readable with color blindness, too."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..maps import without_nan


def cividis(level: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Maps 0 to 1 [H,W] to RGB uint8 [H,W,3], dark to bright; what is not finite is dark.

    Brightness increases monotonically, and the map looks the same with and without color blindness (Nuñez et al. 2018,
    arXiv 1712.01662).
    """
    colored = cv2.applyColorMap(
        (np.clip(without_nan(level), 0, 1) * 255).round().astype(np.uint8), cv2.COLORMAP_CIVIDIS
    )
    return np.asarray(colored[..., ::-1], np.uint8)
