"""Change that lasts and stands out: how far a cell's prediction has come, beyond its surroundings, and stays.

Per-step changes are compared with the median of the image, which is that of a calm background: a whole moving object
exceeds it and hides what is wrong inside of it. Here the change of the wide surroundings is taken off, and the rest is
compared with how much there is to see at the place, by the covariance of the image's own channels (Mahalanobis
distance, as in the detector of Reed and Yu 1990). So an object may move as a whole, its outline may move much before it
counts, and a smear on plain ground only a little; and the unit means the same for pictures and for latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .smoothing import GaussianSmoother

CHANGE = 0.113  # a change counts from mad_scale times this share of the contrast on
FINE, AROUND, WIDE = 4.0, 12.0, 64.0  # px of a 256-px image, Gaussians over: a change, its place, its surroundings
SHRINKAGE = 0.1  # of the covariance towards equal channels (Ledoit and Wolf 2004): no channel weighs without bound
KEPT = 8  # earlier values at most
ITERATIONS = 16  # of Newton's inverse; doubles the digits each time, enough for 128 channels and this shrinkage
TINY = 1e-12


class LastingChange:
    """Takes one value a step and compares the last one with the first and with one from the middle.

    A few values are kept, however long the run: when they are too many, every other one is dropped, and from then on
    every other one is taken.

    Args:
        size: height and width of the values in cells.
        scale: cells to a pixel of a 256-px image.
        device: where the values live.
        fine, around: a change is averaged over the one, the contrast over the other, px of a 256-px image.
        wide: the average of a change over so much is taken off, same unit; None takes nothing off.
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: float,
        device: torch.device,
        fine: float = FINE,
        around: float = AROUND,
        wide: float | None = WIDE,
    ) -> None:
        def smoother(sigma: float) -> GaussianSmoother:  # below half a cell the kernel is a single weight
            return GaussianSmoother(size, sigma * scale if sigma * scale >= 0.5 else 0.0, None, device)

        self._fine, self._around = smoother(fine), smoother(around)
        self._wide = None if wide is None else smoother(wide)
        self._kept: list[Tensor] = []
        self._every, self._seen = 1, 0
        self._last: Tensor | None = None

    def push(self, value: Tensor) -> None:
        """Takes the next value, float32 [B,C,H,W]."""
        if self._seen % self._every == 0:
            self._kept.append(value)
            if len(self._kept) > KEPT:
                self._kept, self._every = self._kept[::2], 2 * self._every
        self._last = value
        self._seen += 1

    def share(self) -> Tensor:
        """Change as a share of the contrast, the place's plus the image's, [B,H,W], 0 or more.

        The change is the smaller of those since the first and since the middle value: what came and went again is as it
        was at first; what has long been there is as it was in the middle. It is averaged before its size is taken, so
        that an outline that only gets sharper, lighter on one side and darker on the other, counts little; and the
        average of the wide surroundings is taken off.

        Raises:
            ValueError: no value came.
        """
        if self._last is None:
            raise ValueError("A lasting change needs at least one value.")
        middle = self._kept[(self._seen - 1) // 2 // self._every]
        precision = inverse_covariance(self._last)
        since = [mahalanobis(self._outstanding(self._last - earlier), precision) for earlier in (self._kept[0], middle)]
        contrast = mahalanobis(self._last - self._last.mean((2, 3), keepdim=True), precision).square()
        there = self._around(contrast[:, None])[:, 0].sqrt() + contrast.mean((1, 2), keepdim=True).sqrt()
        return torch.minimum(*since) / there.clamp(min=TINY)

    def _outstanding(self, change: Tensor) -> Tensor:
        own = self._fine(change)
        return own if self._wide is None else own - self._wide(change)


def inverse_covariance(value: Tensor) -> Tensor:
    """Inverse [B,C,C] of the shrunk covariance of the channels over each image of ``value`` [B,C,H,W].

    By Newton's iteration (Schulz 1933): products alone, which every device has and which never wait for the host.
    """
    channels = value.shape[1]
    flat = value.flatten(2)
    flat = flat - flat.mean(2, keepdim=True)
    covariance = flat @ flat.mT / flat.shape[2]
    spread = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp(min=TINY)
    one = torch.eye(channels, device=value.device)
    scaled = ((1 - SHRINKAGE) * covariance / spread + SHRINKAGE * one) / channels  # eigenvalues in (0, 1]
    inverse = one.expand_as(scaled)
    for _ in range(ITERATIONS):
        inverse = inverse @ (2 * one - scaled @ inverse)
    return inverse / (channels * spread)


def mahalanobis(change: Tensor, precision: Tensor) -> Tensor:
    """Distance [B,H,W] of changes [B,C,H,W], root mean square over the channels."""
    flat = change.flatten(2)
    square = ((precision @ flat) * flat).mean(1).clamp(min=0)
    return square.sqrt().view(len(change), *change.shape[2:])


def lasting_ratio(share: Tensor, scale: float) -> Tensor:
    """How many times its threshold a change is, [B,H,W]; 0 where it does not exceed it.

    Args:
        share: [B,H,W], see LastingChange.
        scale: the settings' ``mad_scale``.
    """
    threshold = scale * CHANGE
    return torch.where(share > threshold, share / max(threshold, TINY), 0.0)
