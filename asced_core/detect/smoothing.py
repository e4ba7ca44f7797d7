"""Gaussian smoothing on any device, without a device sync.

A Gaussian wider than a few cells leaves only the low frequencies of an image, so a few rows of its cosine transform
smooth it, whatever the kernel's width. A narrow one equals ``scipy.ndimage``: on the CPU by OpenCV's separable filter,
elsewhere by a matrix product on a short axis and a sum of shifted copies on a long one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .upload import upload

TRUNCATE = 4.0  # sigmas at which the kernel ends, as in scipy.ndimage
WIDE = 2.75  # cells; a wider sigma leaves less than half of the frequencies
MATRIX_LENGTH = 256  # longer axes are smoothed by shifted copies
SMALL = 80  # cells; on the CPU, longer axes are filtered by OpenCV
SMALLEST_GAIN = 1e-4  # frequencies that a Gaussian damps to less are left out; the kernel's cut is as large
CACHED = 16  # matrices that are kept from run to run


def gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    """Normalized weights [2 * radius + 1], cut where ``scipy.ndimage.gaussian_filter`` cuts them."""
    radius = int(TRUNCATE * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def mirrored(length: int, radius: int) -> NDArray[np.int64]:
    """Source cell of each cell of a symmetrically padded axis (dcba|abcd|dcba), for tiny axes as well."""
    index = np.arange(-radius, length + radius) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def smoothing_matrix(length: int, sigma: float) -> NDArray[np.float64]:
    """Smoothing of a whole axis as a matrix [length, length].

    For three channels and sigma 2 it is the mixing of the authors' code, which smooths over the channels too.
    """
    kernel = gaussian_kernel(sigma)
    source, matrix = mirrored(length, len(kernel) // 2), np.zeros((length, length))
    for cell in range(length):
        np.add.at(matrix[cell], source[cell : cell + len(kernel)], kernel)
    return matrix


def cosine_rows(length: int, sigma: float) -> NDArray[np.float64]:
    """The rows A [r,length] of an axis' cosine transform that a Gaussian damps to no less than SMALLEST_GAIN.

    Symmetric padding makes the cosine transform (DCT-II) diagonalize the smoothing: it is ``A.T @ diag(gain) @ A``.
    """
    kept = np.flatnonzero(cosine_gain(length, sigma) > SMALLEST_GAIN)
    rows = np.cos(math.pi * kept[:, None] * (np.arange(length) + 0.5) / length) * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows


def cosine_gain(length: int, sigma: float) -> NDArray[np.float64]:
    """What a Gaussian leaves of each frequency k of an axis, ``exp(-(pi k sigma / length)^2 / 2)``, [length]."""
    return np.exp(-0.5 * (math.pi * np.arange(length) * sigma / length) ** 2)


@lru_cache(CACHED)
def _low_frequencies(size: tuple[int, int], sigma: float, minus: float | None) -> list[NDArray[np.float32]]:
    """Cosine rows of both axes, [h,H] and [w,W], and what is left of each pair of frequencies, [h,w]."""
    rows = [cosine_rows(length, sigma) for length in size]

    def gain(sigma: float) -> NDArray[np.float64]:
        return np.outer(*(cosine_gain(length, sigma)[: len(kept)] for length, kept in zip(size, rows, strict=True)))

    left = gain(sigma) if minus is None else gain(sigma) - gain(minus)
    return [one.astype(np.float32) for one in (*rows, left)]


@lru_cache(CACHED)
def _matrix(length: int, sigma: float) -> NDArray[np.float32]:
    return smoothing_matrix(length, sigma).astype(np.float32)


class _Frequencies:
    """Smooths both axes in the low frequencies of maps [...,H,W]; see GaussianSmoother."""

    def __init__(self, size: tuple[int, int], sigma: float, minus: float | None, device: torch.device) -> None:
        self.height, self.width, self.gain = (
            upload(torch.from_numpy(one), device) for one in _low_frequencies(size, sigma, minus)
        )

    def __call__(self, maps: Tensor) -> Tensor:
        left = self.height @ (maps @ self.width.mT)
        return self.height.mT @ (left * self.gain) @ self.width


class _Filter:
    """Smooths both axes of maps [...,H,W] on the CPU by OpenCV."""

    def __init__(self, sigma: float) -> None:
        self.kernel = gaussian_kernel(sigma).astype(np.float32)

    def __call__(self, maps: Tensor) -> Tensor:
        maps = maps.detach().contiguous()
        out = torch.empty_like(maps)
        planes = (one.flatten(0, -3).numpy() for one in (maps, out))
        for plane, smoothed in zip(*planes, strict=True):
            cv2.sepFilter2D(plane, cv2.CV_32F, self.kernel, self.kernel, smoothed, borderType=cv2.BORDER_REFLECT)
        return out


class _Products:
    """Smooths both axes of maps [...,H,W] by matrix products and sums."""

    def __init__(self, size: tuple[int, int], sigma: float, device: torch.device) -> None:
        self.height, self.width = (_Axis(length, sigma, device) for length in size)

    def __call__(self, maps: Tensor) -> Tensor:
        return self.height(self.width(maps, -1), -2)


class _Axis:
    """Smooths the last or the second-to-last axis of maps."""

    def __init__(self, length: int, sigma: float, device: torch.device) -> None:
        self.length, self.matrix = length, None
        if length <= MATRIX_LENGTH:
            self.matrix = upload(torch.from_numpy(_matrix(length, sigma)), device)
            return
        self.kernel = gaussian_kernel(sigma).tolist()
        self.source = upload(torch.tensor(mirrored(length, len(self.kernel) // 2)), device)

    def __call__(self, maps: Tensor, axis: int) -> Tensor:
        if self.matrix is not None:
            return self.matrix @ maps if axis == -2 else maps @ self.matrix.mT
        radius, padded = len(self.kernel) // 2, maps.index_select(axis, self.source)
        out = padded.narrow(axis, radius, self.length) * self.kernel[radius]
        both = torch.empty_like(out)  # fresh memory for each shift would cost more than the sums
        for offset in range(1, radius + 1):  # the kernel is symmetric: two shifts share a weight
            left, right = (padded.narrow(axis, radius + o, self.length) for o in (-offset, offset))
            out.add_(torch.add(left, right, out=both), alpha=self.kernel[radius + offset])
        return out


class GaussianSmoother:
    """Smooths maps of one size on one device.

    Args:
        size: height and width in cells.
        sigma: standard deviation in cells; below 0.5 the kernel is a single weight, and the maps are left alone.
        channels: number of channels to mix with the same kernel (the authors' code), or None for not.
        device: where the maps live.
        minus: sigma of a wider Gaussian whose average is subtracted, in cells; None subtracts nothing.
    """

    def __init__(
        self,
        size: tuple[int, int],
        sigma: float,
        channels: int | None,
        device: torch.device,
        minus: float | None = None,
    ) -> None:
        self._mix: Tensor | None = None
        self._smooth: Callable[[Tensor], Tensor] | None = None
        self._minus: GaussianSmoother | None = None
        if sigma >= WIDE:
            self._smooth = _Frequencies(size, sigma, minus, device)
        elif minus is not None:
            self._minus = GaussianSmoother(size, minus, None, device)
        if 0.5 <= sigma < WIDE:
            filtered = device.type == "cpu" and max(size) > SMALL
            self._smooth = _Filter(sigma) if filtered else _Products(size, sigma, device)
        if sigma >= 0.5 and channels is not None:
            self._mix = upload(torch.from_numpy(_matrix(channels, sigma)), device)

    def __call__(self, maps: Tensor) -> Tensor:
        """Smoothed copy of float32 ``maps`` [B,C,H,W]."""
        smoothed = maps
        if self._mix is not None:
            smoothed = (self._mix @ smoothed.flatten(2)).view_as(maps)
        if self._smooth is not None:
            smoothed = self._smooth(smoothed)
        return smoothed if self._minus is None else smoothed - self._minus(maps)


class FrameSmoother:
    """Smooths maps over the frames of a video.

    Args:
        frames: this many neighbors in the batch are the frames of one video.
        sigma: standard deviation in frames; 0 leaves the maps alone.
        device: where the maps live.

    Attributes:
        active: False if it leaves the maps alone.
    """

    def __init__(self, frames: int, sigma: float, device: torch.device) -> None:
        self._axis = _Axis(frames, sigma, device) if frames > 1 and sigma > 0 else None
        self.active = self._axis is not None

    def __call__(self, maps: Tensor) -> Tensor:
        """Smoothed copy of float32 ``maps`` [B*T,...]."""
        if self._axis is None:
            return maps
        return self._axis(maps.reshape(-1, self._axis.length, maps[0].numel()), -2).view(maps.shape)
