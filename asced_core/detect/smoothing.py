"""Gaussian smoothing and exact medians that run on any device without a device sync.

A Gaussian wider than a few cells leaves only the low frequencies of an axis, so a few rows of its cosine transform
smooth it, whatever the kernel's width. A narrow one is a matrix product on a short axis and a sum of shifted copies on
a long one, both equal to ``scipy.ndimage``. On the CPU all of them beat a single-channel convolution.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TRUNCATE = 4.0  # sigmas at which the kernel ends, as in scipy.ndimage
MATRIX_LENGTH = 256  # longer axes are smoothed by shifted copies
SMALLEST_GAIN = 1e-4  # frequencies that a Gaussian damps to less are left out; the kernel's cut is as large


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
    """The rows A [r,length] with which ``A.T @ A`` is the smoothing of an axis, up to SMALLEST_GAIN.

    Symmetric padding makes the cosine transform (DCT-II) diagonalize the smoothing; a Gaussian's gain at frequency k is
    ``exp(-(pi k sigma / length)^2 / 2)``.
    """
    frequency = np.arange(length)
    gain = np.exp(-0.5 * (math.pi * frequency * sigma / length) ** 2)
    kept = frequency[gain > SMALLEST_GAIN]
    rows = np.cos(math.pi * kept[:, None] * (np.arange(length) + 0.5) / length) * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows * np.sqrt(gain[kept])[:, None]


class _Axis:
    """Smooths the last or the second-to-last axis of maps."""

    def __init__(self, length: int, sigma: float, device: torch.device) -> None:
        self.length, self.matrix = length, None
        rows = cosine_rows(length, sigma)
        self.rows = torch.tensor(rows, dtype=torch.float32, device=device) if len(rows) <= length / 2 else None
        if self.rows is not None:
            return
        if length <= MATRIX_LENGTH:
            self.matrix = torch.tensor(smoothing_matrix(length, sigma), dtype=torch.float32, device=device)
            return
        self.kernel = gaussian_kernel(sigma).tolist()
        self.source = torch.tensor(mirrored(length, len(self.kernel) // 2), device=device)

    def __call__(self, maps: Tensor, axis: int) -> Tensor:
        if self.rows is not None:
            return self.rows.mT @ (self.rows @ maps) if axis == -2 else maps @ self.rows.mT @ self.rows
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
    """Smooths maps of one size on one device; builds its matrices once per run.

    Args:
        size: height and width in cells.
        sigma: standard deviation in cells; below 0.5 the kernel is a single weight, and the maps are left alone.
        channels: number of channels to mix with the same kernel (the authors' code), or None for not.
        device: where the maps live.
    """

    def __init__(self, size: tuple[int, int], sigma: float, channels: int | None, device: torch.device) -> None:
        self._active, self._mix = sigma >= 0.5, None
        if not self._active:
            return
        self._height, self._width = (_Axis(length, sigma, device) for length in size)
        if channels is not None:
            self._mix = torch.tensor(smoothing_matrix(channels, sigma), dtype=torch.float32, device=device)

    def __call__(self, maps: Tensor) -> Tensor:
        """Smoothed copy of float32 ``maps`` [B,C,H,W]."""
        if not self._active:
            return maps
        if self._mix is not None:
            maps = (self._mix @ maps.flatten(2)).view_as(maps)
        return self._height(self._width(maps, -1), -2)


class FrameSmoother:
    """Smooths maps over the frames of a video.

    Args:
        frames: this many neighbors in the batch are the frames of one video.
        sigma: standard deviation in frames; 0 leaves the maps alone.
        device: where the maps live.
    """

    def __init__(self, frames: int, sigma: float, device: torch.device) -> None:
        self._matrix: Tensor | None = None
        if frames > 1 and sigma > 0:
            self._matrix = torch.tensor(smoothing_matrix(frames, sigma), dtype=torch.float32, device=device)

    def __call__(self, maps: Tensor) -> Tensor:
        """Smoothed copy of float32 ``maps`` [B*T,...]."""
        if self._matrix is None:
            return maps
        return (self._matrix @ maps.reshape(-1, len(self._matrix), maps[0].numel())).view(maps.shape)


def median(values: Tensor) -> Tensor:
    """Median over the last axis, the mean of the two middle values where their number is even, [..., N] -> [...].

    Equal to ``numpy.median``.
    """
    if values.device.type == "cpu" and values.shape[-1] > 1:
        return _median_by_partition(values)
    return _median_by_counting(values)


def _median_by_partition(values: Tensor) -> Tensor:
    """By numpy, which selects one value more than ten times as fast as torch on a CPU."""
    middle = values.shape[-1] // 2
    parted = np.partition(values.detach().numpy(), middle, axis=-1)
    upper = torch.from_numpy(parted[..., middle].copy())
    if values.shape[-1] % 2:
        return upper
    # the other middle value is the largest below; a second selected place would cost several times as much
    lower = torch.from_numpy(parted[..., :middle].max(-1))
    return torch.stack((lower, upper), -1).mean(-1)


def _median_by_counting(values: Tensor) -> Tensor:
    """Torch gives the lower middle value; the upper one follows from a count, without a device sync."""
    lower = values.median(dim=-1, keepdim=True).values
    count = values.shape[-1]
    if count % 2:
        return lower.squeeze(-1)
    above = values.masked_fill(values <= lower, math.inf).amin(dim=-1, keepdim=True)
    enough = (values <= lower).sum(dim=-1, keepdim=True) > count // 2
    return torch.where(enough, lower, (lower + above) / 2).squeeze(-1)
