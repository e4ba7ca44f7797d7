"""Gaussian smoothing and exact medians that run on any device without a word to the host.

Smoothing is a product with a banded matrix, block by block: that is what CPUs and GPUs are fastest at,
while a single-channel convolution is slow on the CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

TRUNCATE = 4.0  # the kernel ends at this many sigmas, as in scipy.ndimage
BLOCK = 64  # output cells per product; bounds the work on large images


def kernel_radius(sigma: float) -> int:
    """Half width of the truncated kernel in cells, as ``scipy.ndimage.gaussian_filter`` cuts it."""
    return int(TRUNCATE * sigma + 0.5)


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Normalised weights, float64 [2 * radius + 1]."""
    offsets = np.arange(-kernel_radius(sigma), kernel_radius(sigma) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def _mirrored(length: int, radius: int, extra: int = 0) -> np.ndarray:
    """Source index of each cell of a symmetrically padded axis (dcba|abcd|dcba), also for tiny axes."""
    index = np.arange(-radius, length + radius + extra) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def mixing_matrix(length: int, sigma: float) -> np.ndarray:
    """Smoothing of a whole short axis as one matrix [length, length]; used over the channels.

    For three channels and sigma 2 it is the matrix of the authors' code, which smooths over the channel
    axis as well.
    """
    radius = kernel_radius(sigma)
    source, kernel = _mirrored(length, radius), gaussian_kernel(sigma)
    matrix = np.zeros((length, length))
    for out in range(length):
        np.add.at(matrix[out], source[out : out + 2 * radius + 1], kernel)
    return matrix


def _band(sigma: float) -> np.ndarray:
    """Banded matrix [BLOCK + 2 * radius, BLOCK] that smooths one block."""
    kernel, radius = gaussian_kernel(sigma), kernel_radius(sigma)
    band = np.zeros((BLOCK + 2 * radius, BLOCK))
    for out in range(BLOCK):
        band[out : out + 2 * radius + 1, out] = kernel
    return band


class GaussianSmoother:
    """Smooths maps of one size on one device; builds its matrices once per run.

    Args:
        size: height and width in cells.
        sigma: standard deviation in cells; 0 leaves the maps alone.
        channels: number of channels to mix with the same kernel (the authors' code), or None for not.
        device: where the maps live.
    """

    def __init__(self, size: tuple[int, int], sigma: float, channels: int | None, device: torch.device) -> None:
        self.size, self.sigma = size, sigma
        self.mix: Tensor | None = None
        if sigma <= 0:
            return
        radius = kernel_radius(sigma)
        self.band = torch.tensor(_band(sigma), dtype=torch.float32, device=device)
        self.sources = [
            torch.tensor(_mirrored(n, radius, (-n) % BLOCK), dtype=torch.long, device=device) for n in size
        ]
        if channels is not None:
            self.mix = torch.tensor(mixing_matrix(channels, sigma), dtype=torch.float32, device=device)

    def __call__(self, maps: Tensor) -> Tensor:
        """Smoothed copy of float32 ``maps`` [B,C,H,W]."""
        if self.sigma <= 0:
            return maps
        if self.mix is not None:
            maps = torch.einsum("dc,bchw->bdhw", self.mix, maps)
        return self._along_last(self._along_last(maps, axis=1).mT, axis=0).mT

    def _along_last(self, maps: Tensor, axis: int) -> Tensor:
        blocks = maps.index_select(-1, self.sources[axis]).unfold(-1, len(self.band), BLOCK)
        return (blocks @ self.band).flatten(-2)[..., : self.size[axis]]


def median(values: Tensor) -> Tensor:
    """Median over the last axis, the mean of the two middle values where their number is even, [..., N] -> [...].

    Equal to ``numpy.median``. torch gives the lower middle value; the upper one follows from a count, which
    spares a second selection and any word to the host.
    """
    lower = values.median(dim=-1, keepdim=True).values
    count = values.shape[-1]
    if count % 2:
        return lower.squeeze(-1)
    above = values.masked_fill(values <= lower, math.inf).amin(dim=-1, keepdim=True)
    enough = (values <= lower).sum(dim=-1, keepdim=True) > count // 2
    return torch.where(enough, lower, (lower + above) / 2).squeeze(-1)
