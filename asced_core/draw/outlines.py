"""Outlines of a mask as text, for pages that draw them."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..maps import BoolMap

FINE = 256  # pixels: smaller masks are enlarged first, so that the outline follows the sides of the cells
TOLERANCE = 1.0  # pixel of the enlarged mask: one point for each corner of a cell, in place of two


def outline_path(mask: BoolMap, height: int, width: int) -> str:
    """The outline of a mask as an SVG path, closed, with its holes; empty for an empty mask.

    Args:
        mask: bool [h,w].
        height, width: of the picture, in whose pixels the path is.
    """
    factor = max(1, math.ceil(FINE / min(mask.shape)))
    fine = mask.astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
    down, across = height / fine.shape[0], width / fine.shape[1]
    found, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    paths = []
    for contour in found:
        points = (cv2.approxPolyDP(contour, TOLERANCE, closed=True)[:, 0] + 0.5) * (across, down)
        paths.append("M" + "L".join(f"{_short(x)},{_short(y)}" for x, y in points) + "Z")
    return "".join(paths)


def _short(pixels: float) -> str:
    return f"{pixels:.1f}".removesuffix(".0")
