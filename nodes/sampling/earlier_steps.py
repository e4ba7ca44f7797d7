"""The model at earlier steps of a run, for method redo: added calls that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ...asced_core.kdiffusion import Call, WatchedModel, World
from .patch_probe import NONE
from .patch_state import PatchState


def model_at(
    watched: WatchedModel, call: Call, sigmas: Sequence[float], extra_args: dict[str, Any], patches: PatchState
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """A function that predicts the clean image [B,C,…,H,W] of a state at a step.

    Args:
        watched: the sampler's model; the calls count as extra.
        call: the last call of the run, whose arguments are used.
        sigmas: noise level of each step, as the model is told.
        extra_args: those of the run, without the sampler's own hooks: they must not see these calls.
        patches: what the calls must leave as it was; a mere record of the calls is not among it.
    """
    own = {"model_options": extra_args["model_options"]} if "model_options" in extra_args else {}
    asked = replace(call.asked, options={**call.asked.options, **own})
    generators = patches.generators
    world = World(generators, generators.read() if call.before is None else call.before)

    def predict(x: torch.Tensor, step: int) -> torch.Tensor:
        sigma = torch.full_like(torch.as_tensor(asked.sigma), sigmas[step])
        return watched.added(replace(asked, x=x, sigma=sigma), world)

    return predict


def obstacle_to_redo(memory: str, told_otherwise: bool) -> str:
    """What keeps a run from calling its model at earlier steps; empty if nothing does.

    Args:
        memory: whether patches answer otherwise because of earlier calls, see ``memory_use``.
        told_otherwise: True if the sampler told the model other noise levels than those of its steps.
    """
    if told_otherwise:
        return "the sampler calls the model at other noise levels than those of its steps"
    if memory != NONE:
        return "a patch on this model remembers earlier calls, and would answer from a later step"
    return ""
