"""The timeline of a run: for each step the change, its threshold, and the share of abnormal cells."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..maps import Picture, without_nan
from ..report.report import Report

THUMBNAIL = 512  # pixels of the longer side
BRIGHTEST = 0.995  # quantile of the changes that gets the brightest color


def timeline(report: Report, image: int) -> dict[str, list[float | None]]:
    """The facts about the traced steps of an image, in plain numbers of four digits: a page gets those of all images.

    Returns:
        For each step in ``report.trace_steps``: ``mean`` change, and ``threshold`` and ``share`` of abnormal cells
        (0 to 1, paper Fig. 7), None outside the window. All three are None where the change was not finite.
    """
    first, last = report.window
    thresholds, shares = report.single_steps(image)
    compared = [first < step <= last for step in report.trace_steps]  # the first prediction has no predecessor
    return {
        "mean": [_short(value) for value in report.trace[image].astype(np.float32).mean((1, 2))],
        "threshold": [_short(value) if known else None for value, known in zip(thresholds, compared, strict=True)],
        "share": [_short(value) if known else None for value, known in zip(shares, compared, strict=True)],
    }


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def change_strip(report: Report, image: int) -> Picture:
    """The |change| maps of an image's traced steps side by side, RGB uint8 [h,S*w,3], on one color scale.

    The color map (magma) is perceptually uniform, with color blindness and in grayscale, too. What is not finite is
    dark.
    """
    maps = without_nan(report.trace[image])
    top = float(np.quantile(maps, BRIGHTEST)) or 1.0
    levels = (maps / top * 255).clip(0, 255).astype(np.uint8)
    row = np.ascontiguousarray(levels.transpose(1, 0, 2).reshape(maps.shape[1], -1))
    strip: Picture = cv2.cvtColor(cv2.applyColorMap(row, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB).astype(np.uint8)
    return strip


def last_frame(report: Report, image: int) -> Picture:
    """The last predicted image in the trace, RGB uint8 [h,w,3]; what is not finite is black."""
    return picture_of(report.frames[image, -1])


def picture_of(frame: NDArray[np.floating]) -> Picture:
    """A predicted image [3,h,w], about -1 to 1, as RGB uint8 [h,w,3]; what is not finite is black."""
    colors = without_nan(frame, instead=-1.0).transpose(1, 2, 0)
    picture: Picture = ((colors + 1) * 127.5).clip(0, 255).round().astype(np.uint8)
    return picture


def thumbnail(picture: Picture, side: int = THUMBNAIL) -> Picture:
    """An image RGB uint8 [H,W,3] averaged down to at most ``side`` pixels per side; a smaller one is unchanged."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return small
