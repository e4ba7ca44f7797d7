"""Geometry of boolean maps [H,W] and image shapes: dilation, soft edges, resizing, videos as images; finite values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if not hasattr(cv2, "connectedComponentsWithStats"):  # two wheels share the folder: removing one empties it
    raise ImportError(
        "OpenCV is damaged, because one of its packages was removed while another was installed: run "
        "python -m pip install --force-reinstall --no-deps opencv-python-headless"
    )

BoolMap = NDArray[np.bool_]
Picture = NDArray[np.uint8]  # RGB [H,W,3]
PART = 2**22  # values; larger temporary results go back to the system each time, and fetching them again costs more


def as_images(state: Tensor) -> Tensor:
    """The frames of videos [B,C,T,H,W] as separate images [B*T,C,H,W]; images [B,C,H,W] are returned unchanged."""
    return state if state.ndim == 4 else state.movedim(2, 1).flatten(0, 1)


def as_videos(images: Tensor, frames: int) -> Tensor:
    """Images [B*T,C,H,W] as videos [B,C,T,H,W]: undoes ``as_images``."""
    return images.unflatten(0, (-1, frames)).movedim(1, 2)


def frames_of(shape: tuple[int, ...]) -> int:
    """Frames T of a latent with shape [B,C,T,H,W]; 1 for images [B,C,H,W]."""
    return shape[2] if len(shape) == 5 else 1


def in_parts(work: Callable[[slice], Tensor], shape: Sequence[int]) -> Tensor:
    """The result of all images of a batch, computed for a few at a time, so that a long video needs little memory.

    Args:
        work: the result [b,...] of some neighbors in the batch.
        shape: (B, ...) of what it works on.
    """
    count = max(1, PART // max(1, math.prod(shape[1:])))
    results = [work(slice(first, first + count)) for first in range(0, max(1, shape[0]), count)]
    return results[0] if len(results) == 1 else torch.cat(results)


def finite_images(images: Tensor) -> Tensor:
    """Which of the images [B,C,H,W] hold neither NaN nor infinity, bool [B] on their device, without a device sync.

    Neither survives in a sum, which is many times as fast as a look at each value; values whose sum leaves float32
    could not be measured either.
    """
    return images.sum((1, 2, 3), dtype=torch.float32).isfinite()  # frames of a video are not flattened without a copy


def without_nan(values: NDArray[np.floating], instead: float = 0.0) -> NDArray[np.float32]:
    """Float32 copy with NaN and infinity replaced, so that it can be drawn."""
    return np.nan_to_num(values.astype(np.float32), nan=instead, posinf=instead, neginf=instead)


def feather(mask: BoolMap, width: float) -> NDArray[np.float32]:
    """Weights float32 [H,W]: 0 outside a bool mask, rising to 1 over ``width`` pixels inside its edge."""
    if width <= 0:
        return mask.astype(np.float32)
    depth = cv2.distanceTransform(np.pad(mask, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.clip(depth[1:-1, 1:-1] / (width + 1), 0, 1).astype(np.float32)


def dilate(mask: BoolMap, cells: int) -> BoolMap:
    """Dilates a bool [H,W] mask by a square of ``2 * cells + 1``."""
    if cells <= 0 or not mask.any():
        return mask
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * cells + 1, 2 * cells + 1), np.uint8)).astype(bool)


def touched_cells(mask: BoolMap, height: int, width: int) -> BoolMap:
    """The cells of a grid [height,width] over the same image that contain any part of a bool [H,W] mask.

    Exact for any two sizes: cell i covers ``[i H / height, (i + 1) H / height)``.
    """
    if mask.shape == (height, width):
        return mask
    counts = cv2.integral(mask.astype(np.uint8))  # [H+1,W+1]
    (top, bottom), (left, right) = (_cover(n, cells) for n, cells in zip(mask.shape, (height, width), strict=True))
    inside = counts[bottom][:, right] - counts[top][:, right] - counts[bottom][:, left] + counts[top][:, left]
    return inside > 0


def _cover(length: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel, and last pixel plus one, of each cell along an axis."""
    cell = np.arange(cells)
    return cell * length // cells, -(-(cell + 1) * length // cells)


def resize_mask(mask: BoolMap, height: int, width: int) -> BoolMap:
    """A bool [H,W] mask at another size: downscaling loses no part of it, upscaling blurs no cell."""
    if mask.shape == (height, width):
        return mask
    if height <= mask.shape[0] and width <= mask.shape[1]:
        return touched_cells(mask, height, width)
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
