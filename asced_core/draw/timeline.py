"""A run as a line of steps to walk along: the change at each, its threshold, and the share that was abnormal."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ..maps import Picture
from ..report.report import Report

THUMBNAIL = 512  # pixels of the longer side
BRIGHTEST = 0.995  # quantile of the changes that is shown as the brightest colour


def timeline(report: Report, image: int) -> list[dict[str, Any]]:
    """What is known of each traced step of an image, in plain values.

    Returns:
        For each step: ``step`` from 0, ``phase`` (paper Sec. 3.2), ``mean`` change, and ``threshold`` and ``share``
        of abnormal cells (0 to 1, paper Fig. 7), None outside of the window.
    """
    first, last = report.window
    maps, (thresholds, shares) = report.trace[image].astype(np.float32), report.single_steps(image)
    out = []
    for place, step in enumerate(report.trace_steps):
        compared = first < step <= last  # the window's first prediction has none before it
        out.append(
            {
                "step": step,
                "phase": report.phase(step),
                "mean": float(maps[place].mean()),
                "threshold": float(thresholds[place]) if compared else None,
                "share": float(shares[place]) if compared else None,
            }
        )
    return out


def change_strip(report: Report, image: int) -> Picture:
    """The maps |change| of an image's traced steps side by side, RGB uint8 [h,S*w,3], on one scale of colours.

    The colours (magma) run from dark to bright evenly, also for colour-blind eyes and in grey.
    """
    maps = report.trace[image].astype(np.float32)
    top = float(np.quantile(maps, BRIGHTEST)) or 1.0
    levels = (maps / top * 255).clip(0, 255).astype(np.uint8)
    row = np.ascontiguousarray(levels.transpose(1, 0, 2).reshape(maps.shape[1], -1))
    strip: Picture = cv2.cvtColor(cv2.applyColorMap(row, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB).astype(np.uint8)
    return strip


def last_frame(report: Report, image: int) -> Picture:
    """The last predicted image that the trace kept, RGB uint8 [h,w,3]."""
    frame = report.frames[image, -1].astype(np.float32).transpose(1, 2, 0)
    picture: Picture = ((frame + 1) * 127.5).clip(0, 255).round().astype(np.uint8)
    return picture


def thumbnail(picture: Picture) -> Picture:
    """The picture, RGB uint8 [H,W,3], averaged down to at most 512 pixels a side; a smaller one as it is."""
    height, width = picture.shape[:2]
    scale = THUMBNAIL / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return small
