"""How well a run is going, read early: two signs that rank the runs of one prompt (docs/benchmarks/picking.md).

A model that is undecided predicts the mean of many images, so its prediction is soft: *sharpness* tells malformed
images. The difference between the predictions with and without the prompt points to where the prompt pulls: a run that
moves there is becoming what was asked for, and *agreement* tells images of something else. Classifier-free guidance (Ho
and Salimans 2022, arXiv 2207.12598) adds this pull itself: it sharpens, so sharpness is taken before it is added, and
with it agreement tells nothing. Neither part needs labels, photographs or calibration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import finite_images, in_parts

READ_AT = 0.28  # share of the steps after which it is read
CELLS = (1, 2)  # sides of the squares whose means are compared
TINY = 1e-6  # less than this is rounding


@dataclass(frozen=True)
class RunScore:
    """The parts of one image's score; higher is better, and they are compared within a batch only.

    Attributes:
        sharpness: how decided the predicted image is, above 0, in the unit of the model's state; NaN if that was not
            finite.
        agreement: cosine between where the prompt pulls and where the prediction moves, -1 to 1; None if not read.
    """

    sharpness: float
    agreement: float | None = None


class ScoreReader:
    """Reads the score of one run once, at a given share of its steps.

    Args:
        steps: sampling steps of the run.
        read_at: share of the steps after which it is read, 0 to 1.
        agreement: True keeps what ``agree`` needs.

    Attributes:
        step: the step it is read at, counted from 0.
    """

    def __init__(self, steps: int, read_at: float = READ_AT, agreement: bool = False) -> None:
        self.step = step_at(steps, read_at)
        self._earlier = self.step // 2  # the step it is compared with
        self._agrees = agreement
        self._before: Tensor | None = None
        self._now: Tensor | None = None
        self._sharpness: Tensor | None = None  # float32 [N] each, on the device
        self._agreement: Tensor | None = None

    def observe(self, step: int, images: Tensor, prompted: Tensor | None = None) -> None:
        """Takes the prediction of a step; a repeated step replaces it. Does not wait for the device.

        Args:
            step: index of the step.
            images: predicted clean images [N,C,H,W].
            prompted: those with the prompt alone, before guidance; None if there is no guidance, or if it is unknown.
        """
        if step == self.step:
            read = sharpness(images if prompted is None else prompted)
            self._sharpness = torch.where(finite_images(images), read, torch.nan)  # whatever broke it
            self._now = images if self._agrees else None
        elif step == self._earlier and self._agrees:
            self._before = images

    def agree(self, unprompted: Tensor) -> None:
        """Adds the agreement of a run without guidance, from its predictions [N,C,H,W] without the prompt."""
        if self._now is not None and self._before is not None:
            now = self._now.float()
            self._agreement = agreement(now - unprompted.float(), now - self._before.float())
        self._now = self._before = None

    @property
    def known(self) -> bool:
        """True once it was read."""
        return self._sharpness is not None

    def scores(self, frames: int = 1) -> list[RunScore]:
        """The score of each image, or of each video as the mean of its frames; empty before it is read. One sync."""
        if self._sharpness is None:
            return []
        sharp, agreed = _per_item(self._sharpness, frames), self._agreement
        parts = [None] * len(sharp) if agreed is None else _per_item(agreed, frames)
        return [RunScore(*both) for both in zip(sharp, parts, strict=True)]


def sharpness(images: Tensor) -> Tensor:
    """Mean absolute difference between neighbors in predictions [N,C,H,W], float32 [N], on their device.

    Neighbors are single cells and squares of 2x2 cells; the result is the geometric mean of both.
    """
    return in_parts(lambda part: _sharpness(images[part].float()), images.shape)


def _sharpness(value: Tensor) -> Tensor:
    fits = [side for side in CELLS if side == 1 or min(value.shape[-2:]) >= 2 * side]
    sizes = [F.avg_pool2d(value, side) if side > 1 else value for side in fits]
    return torch.stack([_neighbor_change(one).clamp(min=TINY).log() for one in sizes]).mean(0).exp()


def agreement(pull: Tensor, move: Tensor) -> Tensor:
    """Cosine between images [N,C,H,W], float32 [N]; 0 where one of them is 0.

    Args:
        pull: the prediction with the prompt minus the one without.
        move: how the prediction has changed since an earlier step.
    """
    return F.cosine_similarity(pull.float().flatten(1), move.float().flatten(1), dim=1)


def _neighbor_change(value: Tensor) -> Tensor:
    """Mean over both axes of the mean absolute difference between neighbors, [N]; a single row or column counts 0."""
    across, down = (value.diff(dim=axis).abs().flatten(1) for axis in (3, 2))
    return sum((d.mean(1) for d in (across, down) if d.shape[1]), value.new_zeros(len(value))) / 2


def step_at(steps: int, share: float) -> int:
    """The last of the first ``share`` of the steps, counted from 0."""
    return min(max(math.ceil(share * steps - 1e-9) - 1, 0), max(steps - 1, 0))


def _per_item(values: Tensor, frames: int) -> list[float]:
    means: list[float] = values.view(-1, frames).mean(1).tolist()
    return means
