"""Whether what the patches of a model remember changes its answers, or is only a record of the calls.

A patch that counts its calls may log them, or act on every third one. A stranger's counter does not tell; so the same
call is made several times with the patches alone, without the network, and undone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.model_management
import torch

from ...asced_core.kdiffusion import Call, World
from .network import around_network
from .patch_state import PatchState, changes

CALLS = 6  # enough to meet what happens at every second to sixth call
NONE, ACTS, UNKNOWN = "none", "acts", "unknown"


def memory_use(model: Any, call: Call, patches: PatchState, early: Any, now: Any) -> str:
    """Whether the patches answer a call otherwise because of the calls before it: NONE, ACTS or UNKNOWN.

    Args:
        model: the sampler's model, as ComfyUI passes it.
        call: the last call, whose arguments are used.
        patches: what may remember.
        early: its state a few calls ago.
        now: its state now.
    """
    places = changes(early, now)
    if not places:
        return NONE
    if comfy.model_management.processing_interrupted():
        return UNKNOWN  # the next call is cancelled, and the probe must not swallow that
    asked = around_network(replace(call.asked, x=call.x), lambda _, x, *args, **kwargs: x * 0.5)
    answers: list[torch.Tensor] = []

    def ask(state: Any, calls: int) -> set[Any]:
        """Asks again from a state; returns the places that no longer hold what they held early on."""
        with World(patches, state).entered():
            answers.extend(asked.of(model) for _ in range(calls))
            return changes(early, patches.read())

    try:
        reached = ask(early, CALLS)  # what is written again can be told from what is not
        ask(now, 1)
    except Exception:  # a patch may well be made to fail at some call
        return UNKNOWN
    *again, after = answers
    if any(not torch.equal(again[0], other) for other in again[1:]):
        return ACTS
    if not places <= reached:  # what was not written sits inside the network, and may be written there before its use
        return UNKNOWN
    return NONE if torch.equal(again[0], after) else ACTS
