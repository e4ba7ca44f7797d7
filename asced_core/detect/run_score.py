"""A run's score after a share of its steps: which of several drafts of one prompt are worth finishing.

It has two parts, and neither has a unit or needs calibration. A model that is undecided predicts the mean of many
images, so its prediction is soft: *sharpness* tells malformed images. The difference between the predictions with and
without the prompt points to where the prompt pulls (classifier-free guidance, Ho and Salimans 2022): a draft that moves
there is becoming what was asked for, and *agreement* tells images of something else. Both compare drafts of the same
prompt only. Measured in docs/benchmarks/picking.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DRAFT_SHARE = 0.28  # of the model calls, after which a draft is scored
CELLS = (1, 2)  # sides of the squares whose means are compared
EQUAL = 1e-6  # less than this is rounding


@dataclass(frozen=True)
class ScoreParts:
    """What a draft's score is made of, still on the device; higher is better.

    Attributes:
        sharpness: float32 [B], above 0, in the unit of the predictions; compare it with the batch's median.
        agreement: float32 [B], -1 to 1; None without predictions that ignore the prompt.
    """

    sharpness: Tensor
    agreement: Tensor | None = None


def parts(denoised: Tensor, earlier: Tensor | None = None, unprompted: Tensor | None = None) -> ScoreParts:
    """The parts of the score, without a device sync.

    Args:
        denoised: predicted clean images [B,C,H,W] at the end of the drafts, after guidance if there is any.
        earlier: the predictions halfway through the drafts, same shape.
        unprompted: predictions without the prompt, of the same states as ``denoised``; with guidance they are known,
            otherwise they cost one model call per draft.

    Raises:
        ValueError: the shapes differ.
    """
    if unprompted is None or earlier is None:
        return ScoreParts(sharpness(denoised))
    return ScoreParts(sharpness(denoised), agreement(denoised, earlier, unprompted))


def sharpness(denoised: Tensor) -> Tensor:
    """Mean absolute difference between neighbors in predictions [B,C,H,W], float32 [B].

    Neighbors are single cells and squares of 2x2 cells; the result is the geometric mean of both.
    """
    value = denoised.float()
    logs = [_neighbor_change(F.avg_pool2d(value, side) if side > 1 else value).clamp(min=EQUAL).log() for side in CELLS]
    return torch.stack(logs).mean(0).exp()


def agreement(denoised: Tensor, earlier: Tensor, unprompted: Tensor) -> Tensor:
    """Cosine between where the prompt pulls and where the prediction has moved since ``earlier``, float32 [B].

    Raises:
        ValueError: the shapes differ.
    """
    if not denoised.shape == earlier.shape == unprompted.shape:
        raise ValueError(
            "Expected three predictions of one shape, "
            f"got {tuple(denoised.shape)}, {tuple(earlier.shape)} and {tuple(unprompted.shape)}."
        )
    now = denoised.float()
    pull, move = (now - unprompted.float()).flatten(1), (now - earlier.float()).flatten(1)
    return F.cosine_similarity(pull, move, dim=1)


def undecided(score: ScoreParts) -> Tensor:
    """How undecided the drafts of one prompt are, float32 [B]; lower is better.

    The mean of the parts' standard scores within the batch: 0 is as decided as the batch's mean, 1 is one standard
    deviation less decided. Predictions that hold NaN or infinity get infinity and do not affect the others.
    """
    found = [_standard(score.sharpness.log())]
    if score.agreement is not None:
        found.append(_standard(score.agreement))
    mean = -torch.stack(found).mean(0)
    return torch.where(mean.isfinite(), mean, torch.inf)


def _neighbor_change(value: Tensor) -> Tensor:
    """Mean over both axes of the mean absolute difference between neighbors, [B]; a single row or column counts 0."""
    across, down = (value.diff(dim=axis).abs().flatten(1) for axis in (3, 2))
    return sum((d.mean(1) for d in (across, down) if d.shape[1]), value.new_zeros(len(value))) / 2


def _standard(value: Tensor) -> Tensor:
    """Standard scores [B]; values that are not finite stay out of mean and deviation, and become NaN."""
    known = value.isfinite()
    count = known.sum().clamp(min=1)
    mean = torch.where(known, value, 0.0).sum() / count
    away = torch.where(known, value - mean, 0.0)
    deviation = (away.square().sum() / count).sqrt()
    return torch.where(known, away / deviation.clamp(min=EQUAL), torch.nan)
