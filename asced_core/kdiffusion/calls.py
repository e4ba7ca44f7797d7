"""What is remembered of a run's model calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .second_run import Asked

ALIKE = 0.01  # relative tolerance for two answers to the same question; GPUs add in changing order


@dataclass(frozen=True, eq=False)
class Call:
    """One model call of the first run.

    Attributes:
        asked: its arguments; ``sigma`` is the noise level that the model was told.
        x: the state that the model got: once there is a corrected run, its images take their state from there.
        denoised: the model's prediction.
        returned: what the sampler got: the prediction, or a steered one.
        drawn: number of draws in this step before the call.
        before: side effects before the call, if they were read.
    """

    asked: Asked
    x: Tensor
    denoised: Tensor
    returned: Tensor
    drawn: int = 0
    before: Any = None


@dataclass(frozen=True, eq=False)
class Answer:
    """The model's answer to the corrected state, next to its answer to the uncorrected one.

    Attributes:
        call: the added call.
        first: the same call of the first run.
        items: bool, which images of the batch were corrected; broadcastable to the state.
    """

    call: Call
    first: Call
    items: Tensor

    def read(self) -> tuple[bool, bool]:
        """Whether the corrected images got a new prediction, and the others the same one as before; one device sync.

        Neither is certain for a model with a memory: it may answer from a cache, or answer each call differently.
        """
        old, new = self.first.denoised.float(), self.call.denoised.float()
        fresh = ((new != old) & self.items).any() | (self.first.x == self.call.x).all()
        scale = old.abs().mean() * ALIKE
        alike = (((new - old).abs() <= scale) | self.items | old.isnan()).all()
        return tuple(torch.stack([fresh, alike]).tolist())
