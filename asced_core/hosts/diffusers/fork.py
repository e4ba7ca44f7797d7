"""A second scheduler beside the pipeline's own, for the images that were corrected.

A scheduler may remember earlier model outputs, which are not those of a corrected image. So corrected images go on with
a copy that starts at T_c. Both step on the same model output, and the results are merged by image.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Fork:
    """The scheduler of the corrected images.

    Args:
        scheduler: a copy that has its timesteps and has not stepped yet.
        place: of T_c in its timesteps.
        corrected: which items of the batch take its result, bool [B,1,…].
    """

    def __init__(self, scheduler: Any, place: int, corrected: Tensor) -> None:
        self._scheduler, self._corrected, self._steps = scheduler, corrected, 0
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(place)

    def step(self, given: inspect.BoundArguments) -> Any:
        """What the second scheduler makes of the arguments of a step."""
        arguments = dict(given.arguments)
        self._begin_history(arguments)
        theirs = self._scheduler.step(**arguments)
        self._steps += 1
        if hasattr(self._scheduler, "counter"):
            self._scheduler.counter = max(2, self._scheduler.counter)  # PNDM: no second try of the first step
        return theirs

    def merged(self, ours: Any, theirs: Any) -> Any:
        """What the pipeline's own scheduler returned, with the corrected images from the second one."""
        if isinstance(ours, tuple):
            return tuple(self._merged(a, b) for a, b in zip(ours, theirs, strict=True))
        for name in list(ours):
            ours[name] = self._merged(ours[name], theirs[name])
        return ours

    def _begin_history(self, arguments: dict[str, Any]) -> None:
        """The methods whose order depends on the place in the schedule, not on what they remember."""
        if hasattr(self._scheduler, "get_lms_coefficient"):
            arguments["order"] = min(self._steps + 1, arguments.get("order", 4))
        if "old_pred_original_sample" in arguments and self._steps == 0:
            arguments["old_pred_original_sample"] = None

    def _merged(self, ours: Any, theirs: Any) -> Any:
        if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor) or ours.ndim != self._corrected.ndim:
            return ours
        return torch.where(self._corrected, theirs, ours)


@contextlib.contextmanager
def same_noise(generator: Any, device: torch.device) -> Iterator[None]:
    """What is drawn in the block can be drawn again after it: random generators are put back at its end.

    Args:
        generator: the generator of a step, a list of them, or None.
        device: where noise may also be drawn from the global generator.
    """
    generators = generator if isinstance(generator, list) else [generator]
    own = [(one, one.get_state()) for one in generators if isinstance(one, torch.Generator)]
    beside = [] if device.type in ("cpu", "mps") else [device]  # the generator of the CPU is always put back
    with torch.random.fork_rng(beside, device_type=device.type if beside else "cuda"):
        yield
    for one, state in own:
        one.set_state(state)
