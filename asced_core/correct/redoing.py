"""Redo: the regions are sampled again from T_d on, while their surroundings keep to the states of the run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..noise import NoiseLevel, Predict, next_state


def redo(
    start: Tensor,
    recorded: Sequence[Tensor],
    mask: Tensor,
    levels: Sequence[NoiseLevel],
    predict: Predict,
    first: int,
) -> Tensor:
    """The state at T_c: sampled from T_d on inside the mask, bit-for-bit the recorded one outside.

    Each step is deterministic, whatever the sampler does, so no noise is drawn and the surroundings cannot change it.

    Args:
        start: state at T_d [B,C,H,W] or [B,C,T,H,W], already re-noised inside the mask.
        recorded: the run's own states at the following steps, up to T_c, same shape.
        mask: bool, [B,H,W] or [B,T,H,W].
        levels: noise level of ``start`` and of each recorded state.
        predict: the model, called once for each recorded state.
        first: index of the step of ``start``.
    """
    x, inside = start, mask.unsqueeze(1)
    for n, own in enumerate(recorded):
        x = torch.where(inside, next_state(x, predict(x, first + n), levels[n], levels[n + 1]), own)
    return x
