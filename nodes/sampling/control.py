"""ControlNets in the conditioning of one model call: computed for part of the batch, or not at all."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import comfy.controlnet
import torch

Select = Callable[[Any, int], Any]  # rows of all tensors in a value that have this many
Spread = Callable[[torch.Tensor, int], torch.Tensor]  # those rows in a tensor with this many


class Controls:
    """Puts something else in the place of each ControlNet; the conditioning of the graph stays as it is.

    Args:
        replaced: makes what takes a ControlNet's place; it is asked once for each.
    """

    def __init__(self, replaced: Callable[[Any], Any]) -> None:
        self._replaced = replaced
        self._made: dict[int, tuple[Any, Any]] = {}  # with the original, so that its id stays taken

    def __call__(self, executor: Any, model: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
        """A wrapper around ComfyUI's ``calc_cond_batch``."""
        return executor(model, [self._changed(conditioning) for conditioning in conds], *args, **kwargs)

    def _changed(self, conditioning: Any) -> Any:
        if conditioning is None:
            return None
        return [{**one, "control": self._of(one["control"])} if one.get("control") else one for one in conditioning]

    def _of(self, control: Any) -> Any:
        if id(control) not in self._made:
            self._made[id(control)] = control, self._replaced(control)
        return self._made[id(control)][1]


class NoControl:
    """Takes the place of a ControlNet in a call whose network is not asked."""

    def get_control(self, *_: Any, **__: Any) -> None:
        """Nothing."""


def for_rows(control: Any, select: Select, spread: Spread) -> Any:
    """A copy of a ControlNet, and of those before it, whose network computes some rows alone.

    Args:
        control: one of ComfyUI's own; any other is returned as it is, and computes all rows.
        select: takes the rows out of its network's inputs.
        spread: puts the rows of its answer back in their places.
    """
    if getattr(comfy.controlnet, type(control).__name__, None) is not type(control):
        return control
    own = copy.copy(control)
    if control.previous_controlnet is not None:
        own.previous_controlnet = for_rows(control.previous_controlnet, select, spread)
    if getattr(control, "control_model", None) is not None:
        own.control_model = _NetworkForRows(control.control_model, select, spread)
    return own


class _NetworkForRows:
    def __init__(self, network: Any, select: Select, spread: Spread) -> None:
        self._network, self._select, self._spread = network, select, spread

    def __call__(self, *, x: torch.Tensor, **inputs: Any) -> Any:
        size = len(x)
        return self._whole(self._network(**self._select({"x": x, **inputs}, size)), size)

    def _whole(self, value: Any, size: int) -> Any:
        if isinstance(value, torch.Tensor):
            return self._spread(value, size)
        if isinstance(value, dict):
            return {name: self._whole(one, size) for name, one in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._whole(one, size) for one in value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)
