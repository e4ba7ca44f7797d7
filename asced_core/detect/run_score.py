"""How well a run is going, read early: two signs that rank the runs of one prompt (docs/benchmarks/picking.md).

Where the model has not decided what to draw, its prediction is the mean of what it could draw, which is blurred. And
where guidance still pulls along with the run, the image becomes what the prompt asks for; where it pulls elsewhere, the
image resists. Neither needs labels, photographs or calibration, and neither has a unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

READ_AT = 0.28  # share of the steps after which it is read
POOLED = 2  # cells per side that are averaged first, so that grain does not count as sharpness
TINY = 1e-12


@dataclass(frozen=True)
class RunScore:
    """The parts of one image's score; higher is better, and they are compared within a batch only.

    Attributes:
        sharpness: how decided the predicted image is, in its own unit, 0 or more; NaN if it was not finite.
        agreement: cosine of the change of the prediction with the pull of guidance, -1 to 1; None without guidance.
    """

    sharpness: float
    agreement: float | None = None

    @property
    def parts(self) -> tuple[float | None, ...]:
        """The parts in this order."""
        return self.sharpness, self.agreement


class ScoreReader:
    """Reads the score of one run once, at a given share of its steps.

    Args:
        steps: sampling steps of the run.
        read_at: share of the steps after which it is read, 0 to 1.

    Attributes:
        step: the step it is read at, counted from 0.
    """

    def __init__(self, steps: int, read_at: float = READ_AT) -> None:
        self.step = step_at(steps, read_at)
        self._earlier = self.step // 2  # the step it is compared with
        self._before: Tensor | None = None
        self._read: tuple[Tensor, Tensor | None] | None = None  # float32 [N] each, on the device

    def observe(self, step: int, images: Tensor, guidance: Tensor | None = None) -> None:
        """Takes the prediction of a step; a repeated step replaces it. Does not wait for the device.

        Args:
            step: index of the step.
            images: predicted clean images [N,C,H,W].
            guidance: the prediction with the prompt minus the one without, same shape; None if it is unknown.
        """
        if step == self.step:
            agreement = None if self._read is None else self._read[1]  # a corrected prediction keeps it
            if guidance is not None and self._before is not None:
                agreement = cosine(guidance, images.float() - self._before.float())
            self._read = coarse_sharpness(images), agreement
        elif step == self._earlier:
            self._before = images

    @property
    def known(self) -> bool:
        """True once it was read."""
        return self._read is not None

    def scores(self, frames: int = 1) -> list[RunScore]:
        """The score of each image, or of each video as the mean of its frames; empty before it is read. One sync."""
        if self._read is None:
            return []
        sharpness, agreement = (None if one is None else _per_item(one, frames) for one in self._read)
        assert sharpness is not None
        return [RunScore(sharp, None if agreement is None else agreement[n]) for n, sharp in enumerate(sharpness)]


def coarse_sharpness(images: Tensor) -> Tensor:
    """Mean absolute difference between neighboring cells, float32 [N], on their device.

    Args:
        images: predicted clean images [N,C,H,W], averaged over 2x2 cells first.
    """
    coarse = F.avg_pool2d(images.float(), POOLED) if min(images.shape[-2:]) >= 2 * POOLED else images.float()
    down, across = (coarse.diff(dim=axis).abs().flatten(1) for axis in (-2, -1))
    return torch.cat([down, across], 1).mean(1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between images [N,C,H,W], float32 [N]; 0 where one of them is 0."""
    a, b = a.float().flatten(1), b.float().flatten(1)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt().clamp(min=TINY)


def step_at(steps: int, share: float) -> int:
    """The last of the first ``share`` of the steps, counted from 0."""
    return min(max(math.ceil(share * steps - 1e-9) - 1, 0), max(steps - 1, 0))


def _per_item(values: Tensor, frames: int) -> list[float]:
    means: list[float] = values.view(-1, frames).mean(1).tolist()
    return means
