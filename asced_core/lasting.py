"""Change that lasts: how far a cell's prediction has come, in units of the image's own contrast.

Per-step changes are compared with the median of the image, which is that of a calm background: a whole moving object
exceeds it and hides what is wrong inside of it. The net change over the window is small where values only waver or come
back, and, measured by the covariance of the image's channels, a patch of an unusual colour stands out at low
contrast (Mahalanobis distance, as in the detector of Reed and Yu 1990). Its root mean square over the image bounds what
can be found: at most ``1/r^2`` of the cells lie above ``r`` times it (Chebyshev).
"""

from __future__ import annotations

import torch
from torch import Tensor

CONTRAST = 0.4  # a change counts from mad_scale times this share of the image's contrast on
OUTSTANDING = 2 / 3  # and from mad_scale times this share of the image's root mean square change on
SHRINKAGE = 0.1  # of the covariance towards equal channels (Ledoit and Wolf 2004): no channel weighs without bound
KEPT = 5  # earlier values at most
ITERATIONS = 16  # of Newton's inverse; doubles the digits each time, enough for 128 channels and this shrinkage
TINY = 1e-12


class LastingChange:
    """Takes one value a step and compares the last one with the first and with one from the middle.

    A few values are kept, however long the run: when they are too many, every other one is dropped, and from then on
    every other one is taken.
    """

    def __init__(self) -> None:
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

    def distance(self) -> Tensor:
        """The smaller of the changes since the first and since the middle value, [B,H,W]; 1 is the image's contrast.

        What came and went again is as it was at first; what has long been there is as it was in the middle.

        Raises:
            ValueError: no value came.
        """
        if self._last is None:
            raise ValueError("A lasting change needs at least one value.")
        middle = self._kept[(self._seen - 1) // 2 // self._every]
        precision = inverse_covariance(self._last)
        since = [_mahalanobis(self._last - earlier, precision) for earlier in (self._kept[0], middle)]
        return torch.minimum(*since)


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


def _mahalanobis(change: Tensor, precision: Tensor) -> Tensor:
    """Distance [B,H,W] of changes [B,C,H,W], root mean square over the channels."""
    flat = change.flatten(2)
    square = ((precision @ flat) * flat).mean(1).clamp(min=0)
    return square.sqrt().view(len(change), *change.shape[2:])


def lasting_ratio(distance: Tensor, scale: float) -> Tensor:
    """How many times its threshold a distance is, [B,H,W]; 0 where it does not exceed it.

    Args:
        distance: [B,H,W], smoothed.
        scale: the settings' ``mad_scale``.
    """
    usual = distance.square().mean((1, 2)).sqrt()
    threshold = scale * (OUTSTANDING * usual).clamp(min=CONTRAST)[:, None, None]
    return torch.where(distance > threshold, distance / threshold.clamp(min=TINY), 0.0)
