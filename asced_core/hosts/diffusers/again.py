"""Asks the model once more at T_c, for the corrected state, guidance included.

The pipeline's guidance is code inside its loop. It is not called but recognized: the recorded outputs of the model,
combined in one of the known ways, must give what the pipeline gave the scheduler, bit for bit. If none does, nothing is
repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .fork import same_noise
from .guidance import recognized

DENOISERS = ("unet", "transformer", "transformer_2")
HARMLESS = ("vae", "image_encoder", "text_encoder", "text_encoder_2", "text_encoder_3")  # a callback may decode
INPUTS = ("sample", "hidden_states")


class UnrepeatableError(Exception):
    """The step cannot be repeated; the text is the reason, the end of a sentence."""


@dataclass(frozen=True, eq=False)
class Call:
    """One recorded call of a network."""

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    @property
    def key(self) -> int | str:
        """Where the state is among the arguments."""
        return next((name for name in INPUTS if name in self.kwargs), 0)

    @property
    def state(self) -> Any:
        """What the network was given as state."""
        key = self.key
        return self.kwargs[key] if isinstance(key, str) else self.args[0] if self.args else None

    def again(self, state: Tensor) -> Any:
        """Calls the network with another state."""
        if isinstance(self.key, str):
            return self.module(*self.args, **{**self.kwargs, self.key: state})
        return self.module(state, *self.args[1:], **self.kwargs)


class Again:
    """Records the networks' calls of one step, and repeats them for another state.

    Args:
        pipe: the pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._calls: list[Call] = []
        self._hooks: list[Any] = []

    def listen(self) -> None:
        """Records from now on, until ``close``."""
        for name, module in self._pipe.components.items():
            if isinstance(module, nn.Module) and name not in HARMLESS:
                self._hooks.append(module.register_forward_hook(self._recorder(name), with_kwargs=True))

    def close(self) -> None:
        """Takes the hooks away, and forgets what was recorded."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._calls.clear()

    def __call__(self, t: Any, old: Tensor, new: Tensor, guided: Tensor) -> Tensor:
        """The guided output for another state of the step.

        Args:
            t: the timestep.
            old: the pipeline's state.
            new: the other state, same shape.
            guided: the guided output for the pipeline's state.

        Raises:
            UnrepeatableError: with the reason.
        """
        calls = tuple(self._calls)
        self.close()
        if not calls:
            raise UnrepeatableError("no call of the model was seen")
        for call in calls:
            if call.name not in DENOISERS:
                raise UnrepeatableError(f"{call.name} takes part in each step")
            if getattr(call.module, "is_cache_enabled", False):
                raise UnrepeatableError("the model caches its calls")
        inputs = [self._other_input(call, t, old, new) for call in calls]
        parts = self._parts([call.output for call in calls], len(old))
        guidance = recognized(parts, guided, self._pipe)
        if guidance is None:
            raise UnrepeatableError("its guidance is not one that is known here")
        with same_noise(None, old.device):
            outputs = [call.again(state) for call, state in zip(calls, inputs, strict=True)]
        return guidance(self._parts(outputs, len(old)))

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self._calls.append(Call(name, module, args, kwargs, output))

        return torch.compiler.disable(record)

    def _other_input(self, call: Call, t: Any, old: Tensor, new: Tensor) -> Tensor:
        """The network's input for another state: the same preparation of it, which must give the recorded input."""
        given = call.state
        if not isinstance(given, Tensor) or given.ndim != old.ndim or len(given) % len(old):
            raise UnrepeatableError("the model takes the state in another form than the scheduler")
        copies = len(given) // len(old)
        scale = getattr(self._pipe.scheduler, "scale_model_input", lambda x, _t: x)
        for prepare in (lambda x: scale(torch.cat([x] * copies), t), lambda x: torch.cat([x] * copies)):
            axis = _prefix(prepare(old).to(given.dtype), given)
            if axis is not None:
                fresh = given.clone()
                fresh.narrow(axis, 0, prepare(new).shape[axis]).copy_(prepare(new))
                return fresh
        raise UnrepeatableError("the pipeline changes the state before the model sees it")

    @staticmethod
    def _parts(outputs: list[Any], batch: int) -> list[Tensor]:
        """The outputs of one batch each: conditional, unconditional and so on, in the pipeline's order."""
        parts: list[Tensor] = []
        for output in outputs:
            tensor = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
            if not isinstance(tensor, Tensor):
                raise UnrepeatableError("the model's output is not a tensor")
            parts += tensor.split(batch)
        return parts


def _prefix(head: Tensor, whole: Tensor) -> int | None:
    """The axis along which a tensor begins with another one, bit for bit; None if there is none."""
    for axis in range(1, whole.ndim):
        if head.shape[axis] <= whole.shape[axis]:
            begin = whole.narrow(axis, 0, head.shape[axis])
            if begin.shape == head.shape and torch.equal(begin, head):
                return axis
    return None
