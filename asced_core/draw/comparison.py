"""Two versions of an image side by side."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..maps import Picture
from .overlay import COLORS, MIN_SIDE, contact_sheet, draw_label, enlarge

SEAM = 2  # white pixels between the two images


def before_and_after(before: Picture, after: Picture, mask: NDArray[np.bool_] | None = None) -> Picture:
    """Before on the left and after on the right, labeled, RGB uint8; small images are enlarged.

    Args:
        before, after: uint8 [H,W,3], same size.
        mask: bool [H,W]; its outline is drawn into both.

    Raises:
        ValueError: the sizes differ.
    """
    if before.shape != after.shape or (mask is not None and mask.shape != before.shape[:2]):
        given = [before.shape[:2], after.shape[:2], *([] if mask is None else [mask.shape])]
        raise ValueError(f"The images and the mask must have the same size; got {given}.")
    halves = []
    for picture, name in ((before, "before"), (after, "after")):
        canvas = enlarge(picture, MIN_SIDE).copy()
        height, width = canvas.shape[:2]
        if mask is not None:
            big = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
            contours, _ = cv2.findContours(big, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, contours, -1, COLORS["vermilion"], max(1, height // 256))
        draw_label(canvas, name, height // 64, height // 12)
        halves.append(canvas)
    return contact_sheet(halves, columns=2, gap=SEAM)
