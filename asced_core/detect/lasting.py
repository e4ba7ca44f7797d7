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

from ..noise import NoiseLevel
from ..settings import DetectionSettings
from .evidence import MAX_RATIO, Evidence, Shape, no_thresholds
from .smoothing import FrameSmoother, GaussianSmoother

CHANGE = 0.113  # a change counts from mad_scale times this share of the contrast on
FINE, AROUND, WIDE = 4.0, 12.0, 64.0  # px of a 256-px image, Gaussians over: a change, its place, its surroundings
SHRINKAGE = 0.1  # of the covariance towards equal channels (Ledoit and Wolf 2004): no channel weighs without bound
KEPT = 8  # earlier values at most
ITERATIONS = 16  # of Newton's inverse; doubles the digits each time, enough for 128 channels and this shrinkage
TINY = 1e-12


class LastingChange:
    """Takes one value a step and compares the last one with the first and with one from the middle: mode ``robust``.

    A few values are kept, however long the run: when they are too many, every other one is dropped, and from then on
    every other one is taken.

    Args:
        settings: the threshold, and the scale of the sizes.
        shape: (B, C, H, W) of the predictions.
        device: where they live.
        frames: this many neighbors in the batch are the frames of one video.
        fine, around: a change is averaged over the one, the contrast over the other, px of a 256-px image.
        wide: the average of a change over this width is subtracted, same unit; None subtracts nothing.
    """

    costly = False

    def __init__(
        self,
        settings: DetectionSettings,
        shape: Shape,
        device: torch.device,
        frames: int = 1,
        *,
        fine: float = FINE,
        around: float = AROUND,
        wide: float | None = WIDE,
    ) -> None:
        self.settings, self.shape = settings, shape
        size = shape[2:]
        scale = settings.scale(*size)
        self._fine, self._around = (GaussianSmoother(size, sigma * scale, None, device) for sigma in (fine, around))
        self._wide = None if wide is None else GaussianSmoother(size, wide * scale, None, device)
        self._over_frames = FrameSmoother(frames, settings.smooth_frames, device)
        self._kept: list[Tensor] = []
        self._interval, self._seen = 1, 0
        self._last: Tensor | None = None

    @property
    def ready(self) -> bool:
        """True from the second prediction on."""
        return self._seen > 1

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Takes the prediction of the next step, see Detector; state and noise level are not needed.

        Raises:
            ValueError: the shape is another one.
        """
        if tuple(denoised.shape) != self.shape:
            raise ValueError(f"A prediction of shape {tuple(denoised.shape)} came where {self.shape} was expected.")
        value = denoised.float()
        if self._seen % self._interval == 0:
            self._kept.append(value)
            if len(self._kept) > KEPT:
                self._kept, self._interval = self._kept[::2], 2 * self._interval
        self._last = value
        self._seen += 1

    def result(self) -> Evidence:
        """What was found so far; two predictions are the least that can differ.

        Raises:
            ValueError: fewer than two predictions came.
        """
        if not self.ready:
            raise ValueError("Changes over time need at least two predictions in the window.")
        return no_thresholds(self._exceeded(self._over_frames(self.share())).clamp(max=MAX_RATIO))

    def _exceeded(self, share: Tensor) -> Tensor:
        """How many times its threshold a change is, [B,H,W]; 0 where it does not exceed it."""
        threshold = self.settings.mad_scale * CHANGE
        return torch.where(share > threshold, share / max(threshold, TINY), 0.0)

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
        middle = self._kept[(self._seen - 1) // 2 // self._interval]
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
