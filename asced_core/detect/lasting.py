"""Lasting change: a cell's prediction changes more than its surroundings and then stays changed.

Changes of single steps are compared with the median of the image, which is that of the calm background: a whole moving
object exceeds it and hides what is wrong inside it. Here the mean change of the wide surroundings is subtracted, and
the rest is divided by the local contrast, both measured with the covariance of the image's own channels (Mahalanobis
distance, as in the detector of Reed and Yu 1990). So an object may move as a whole, an outline may move far before it
counts, a smear on a plain background counts early, and the unit means the same for images and latents.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ..maps import in_parts
from ..noise import NoiseLevel
from ..settings import DetectionSettings
from .certainty import Certainty
from .evidence import MAX_RATIO, Evidence, Shape, no_thresholds
from .memory import WindowMemory
from .smoothing import FrameSmoother, GaussianSmoother

CHANGE = 0.113  # mode robust: a change counts if it exceeds mad_scale times this share of the contrast
STRICT = 1.6  # mode strict: how many times as much, so that it marks less than a third of the good hand images
VISIBLE = 0.15  # mode strict: least contrast around a marked cell, as a share of the whole image's
FINE, AROUND, WIDE = 4.0, 12.0, 64.0  # px of a 256-px image; sigmas for a change, its contrast, its surroundings
SHRINKAGE = 0.1  # of the covariance toward equal channels (Ledoit and Wolf 2004), which bounds every channel's weight
ITERATIONS = 16  # of Newton's inverse, each doubles the digits; enough for 128 channels and this shrinkage
TINY = 1e-12
ALL = slice(None)
# Measured on marks in hand images, half of them judged faulty by eye: benchmarks/confidence.py, choosing half.
CERTAINTY = Certainty((0.356, 0.388, 0.431, 0.478), (0.07, 0.10, 0.11, 0.13))


class LastingChange:
    """Compares the window's last prediction with its first and its middle one: modes ``strict`` and ``robust``.

    Args:
        settings: the threshold, and the scale of the sizes.
        shape: (B, C, H, W) of the predictions.
        device: where they live.
        frames: this many neighbors in the batch are the frames of one video.
        asked: see WindowMemory.
        fine, around: sigma of the Gaussians that average a change and the contrast, px of a 256-px image.
        wide: sigma of the Gaussian whose average is subtracted from a change, same unit; None subtracts nothing.
    """

    def __init__(
        self,
        settings: DetectionSettings,
        shape: Shape,
        device: torch.device,
        frames: int = 1,
        asked: Collection[int] = (),
        *,
        fine: float = FINE,
        around: float = AROUND,
        wide: float | None = WIDE,
    ) -> None:
        self.settings, self._shape = settings, shape
        size = shape[2:]
        scale = settings.scale(*size)
        minus = None if wide is None else wide * scale
        self._outstanding = GaussianSmoother(size, fine * scale, None, device, minus)
        self._around = GaussianSmoother(size, around * scale, None, device)
        # of one cell or more, or small latents would have no contrast
        self._near = GaussianSmoother(size, max(1.0, fine * scale), None, device)
        self._over_frames = FrameSmoother(frames, settings.smooth_frames, device)
        self._memory, self._strict = WindowMemory(shape, asked), settings.mode == "strict"

    @property
    def ready(self) -> bool:
        """True from the second prediction on."""
        return self._memory.seen > 1

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Takes the prediction of the next step, see Detector; state and noise level are not needed."""
        self._memory.push(denoised)

    def result(self) -> Evidence:
        """What was found so far; two predictions are the least that can differ.

        Raises:
            ValueError: fewer than two predictions came.
        """
        return no_thresholds(self._ratio().clamp(max=MAX_RATIO), CERTAINTY.at(self._threshold))

    def so_far(self, image: int) -> Tensor:
        """The cells of one image above the threshold, bool [H,W]; see Detector."""
        if self._over_frames.active:
            return self._ratio()[image] > 0  # the other frames count, too
        one = slice(image, image + 1)
        above = self.share(one) > self._threshold
        return (above & self._visible(one) if self._strict else above)[0]

    def _ratio(self) -> Tensor:
        share = self._over_frames(in_parts(self.share, self._shape))
        ratio = torch.where(share > self._threshold, share / max(self._threshold, TINY), 0.0)
        return torch.where(in_parts(self._visible, self._shape), ratio, 0.0) if self._strict else ratio

    def _visible(self, part: slice) -> Tensor:
        """Where a change would be seen, bool [b,H,W]: nobody sees one of a flat wall."""
        return self.contrast(part) >= VISIBLE

    @property
    def _threshold(self) -> float:
        """Share of the contrast that a change must exceed."""
        return self.settings.mad_scale * CHANGE * (STRICT if self._strict else 1)

    def share(self, part: slice = ALL) -> Tensor:
        """Change as a share of the contrast (local plus that of the whole image), [b,H,W], 0 or more.

        The change is the smaller of the changes since the first and since the middle value: what came and went equals
        the first one, what has been there for long equals the middle one. It is averaged before its magnitude is taken,
        so that an outline that only gets sharper (lighter on one side, darker on the other) counts little.

        Args:
            part: only these of the batch.

        Raises:
            ValueError: there are fewer than two values.
        """
        if not self.ready:
            raise ValueError("Detection needs at least two predictions in the window.")
        first, middle, last = self._memory.three(part)
        centered = about_mean(last)
        precision = _precision(centered)
        since = (squared_distance(self._outstanding(last - earlier), precision) for earlier in (first, middle))
        contrast = squared_distance(centered, precision)
        there = self._around(contrast[:, None])[:, 0].sqrt() + contrast.mean((1, 2), keepdim=True).sqrt()
        return torch.minimum(*since).sqrt() / there.clamp(min=TINY)

    def contrast(self, part: slice = ALL) -> Tensor:
        """Contrast of the last value around each cell as a share of the whole image's, [b,H,W], 0 or more."""
        last = self._memory.three(part)[2]
        near = self._near((last - self._near(last)).square().mean(1, keepdim=True))[:, 0].clamp(min=0).sqrt()
        whole = about_mean(last).square().mean((1, 2, 3)).sqrt()
        return near / whole.clamp(min=TINY)[:, None, None]


def about_mean(value: Tensor) -> Tensor:
    """Values [B,C,H,W] minus the mean of their channel and image."""
    return value - value.mean((2, 3), keepdim=True)


def inverse_covariance(value: Tensor) -> Tensor:
    """Inverse [B,C,C] of the shrunk covariance of the channels over each image of ``value`` [B,C,H,W]."""
    return _precision(about_mean(value))


def _precision(centered: Tensor) -> Tensor:
    flat = centered.flatten(2)
    covariance = flat @ flat.mT / flat.shape[2]
    spread = covariance.diagonal(dim1=1, dim2=2).mean(1, keepdim=True).clamp(min=TINY)
    shrunk = (1 - SHRINKAGE) * covariance
    shrunk.diagonal(dim1=1, dim2=2).add_(spread, alpha=SHRINKAGE)
    return torch.linalg.inv_ex(shrunk).inverse if shrunk.device.type == "cpu" else newton_inverse(shrunk)


def newton_inverse(matrix: Tensor) -> Tensor:
    """Inverse of positive definite matrices [B,C,C] whose condition the shrinkage bounds.

    By Newton's iteration (Schulz 1933): matrix products only, which run on every device without a device sync.
    """
    bound = matrix.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    scaled, one = matrix / bound, torch.eye(matrix.shape[-1], device=matrix.device)  # eigenvalues in (0, 1]
    inverse = one.expand_as(scaled)
    for _ in range(ITERATIONS):
        inverse = inverse @ (2 * one - scaled @ inverse)
    return inverse / bound


def squared_distance(change: Tensor, precision: Tensor) -> Tensor:
    """Square of the Mahalanobis distance of changes [B,C,H,W], mean over the channels, [B,H,W]."""
    flat = change.flatten(2)
    return (precision @ flat).mul_(flat).mean(1).clamp_(min=0).view(len(change), *change.shape[2:])
