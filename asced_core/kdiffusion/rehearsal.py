"""Tries a sampler's function without its model, to see whether it can be started in mid-run.

Started at T_c, a function has to make the same calls that it makes after T_c anyway. For a foreign function this is not
known before it is tried: it may plan its levels or repeats from the length of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .noise_tape import RANDOM
from .side_effects import SideEffects, World
from .watched_model import SAME_SIGMA

MOST = 50  # calls and reports for each step


@dataclass(frozen=True)
class Rehearsal:
    """What a function did.

    Attributes:
        events: in order; ``call`` with the noise level that the model was told, ``step`` with the reported one, -1 if
            there was none.
        samples: its result.
    """

    events: tuple[tuple[str, float], ...]
    samples: Tensor

    @property
    def steps(self) -> int:
        return sum(kind == "step" for kind, _ in self.events)


Answer = Callable[..., Tensor]  # a stand-in for the model: called as the sampler calls the model, returns zeros


def rehearse(
    function: Callable[..., Tensor], model: Any, answer: Answer, x: Tensor, sigmas: Tensor, options: dict[str, Any]
) -> Rehearsal:
    """Calls a sampler's function with a model that always predicts zeros, and without noise.

    Args:
        function: the sampler's function.
        model: only its attributes are used.
        answer: called in place of the model.
        x: a state, for its shape.
        sigmas: noise levels.
        options: further keyword arguments of the function.

    Raises:
        RuntimeError: the function does not end.
        ValueError: it calls the model with a part of the batch, or with several states at once.
    """
    events: list[tuple[str, float]] = []

    def note(kind: str, sigma: Any) -> None:
        events.append((kind, -1.0 if sigma is None else float(torch.as_tensor(sigma).flatten()[0])))
        if len(events) > MOST * len(sigmas):
            raise RuntimeError("The sampler does not end without its model.")

    def on_step(report: dict[str, Any]) -> None:
        note("step", report.get("sigma"))

    options = {**options, "extra_args": dict(options.get("extra_args") or {})}
    if callable(options.get("noise_sampler")):
        options["noise_sampler"] = lambda *_, **__: torch.zeros_like(x)
    with _Silence():
        out = function(
            _StandIn(model, answer, note, x.shape),
            torch.ones_like(x),
            sigmas.clone(),
            callback=on_step,
            disable=True,
            **options,
        )
    return Rehearsal(tuple(events), out)


def obstacle_to_entry(
    function: Callable[..., Tensor],
    model: Any,
    answer: Answer,
    x: Tensor,
    sigmas: Tensor,
    step: int,
    reported: int,
    options: dict[str, Any],
    effects: SideEffects,
    tolerance: float = SAME_SIGMA,
    cancelled: type[BaseException] = KeyboardInterrupt,
) -> str:
    """What keeps a function from being started at a step, as the rest of a sentence about it; empty if nothing does.

    Args:
        function, model, answer, x, options: see ``rehearse``.
        sigmas: noise levels of the whole run.
        step: where to start.
        reported: number of steps that the first run has reported before this one.
        effects: what the function may change besides its own variables; it is left as it was.
        tolerance: relative difference up to which two told noise levels count as the same.
        cancelled: raised by the host when the user cancels; it is passed on.
    """
    now = effects.read()

    def rehearsed(levels: Tensor, seed: int) -> Rehearsal:
        with World(effects, now).entered():
            own = {**options, "extra_args": {**(options.get("extra_args") or {}), "seed": seed}}
            return rehearse(function, model, answer, x, levels, own)

    seed = int((options.get("extra_args") or {}).get("seed") or 0)
    try:
        whole, again, rest = rehearsed(sigmas, seed), rehearsed(sigmas, seed ^ 1), rehearsed(sigmas[step:], seed)
    except cancelled:
        raise
    except Exception as error:  # whatever a foreign function raises
        return f"cannot start in mid-run ({type(error).__name__}: {error})"
    if not torch.equal(whole.samples.nan_to_num(), again.samples.nan_to_num()):
        return "draws noise that cannot be recorded"
    if whole.steps - rest.steps != reported or not _alike(whole.events[-len(rest.events) :], rest.events, tolerance):
        return "takes other steps when it starts in mid-run"
    return ""


def _alike(ours: tuple[tuple[str, float], ...], theirs: tuple[tuple[str, float], ...], tolerance: float) -> bool:
    if [kind for kind, _ in ours] != [kind for kind, _ in theirs]:
        return False
    allowed = {"call": tolerance, "step": SAME_SIGMA}
    return all(abs(a - b) <= allowed[kind] * abs(a) for (kind, a), (_, b) in zip(ours, theirs, strict=True))


class _StandIn:
    """A model that notes its calls; other attributes are those of the real one."""

    def __init__(self, model: Any, answer: Answer, note: Callable[[str, Any], None], shape: torch.Size) -> None:
        self._model, self._answer, self._note, self._shape = model, answer, note, shape

    def __call__(self, x: Tensor, sigma: Any, *args: Any, **options: Any) -> Tensor:
        if x.shape != self._shape:
            raise ValueError("the model is called with another shape than that of the state")
        self._note("call", sigma)
        return self._answer(x, sigma, *args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class _Silence(TorchFunctionMode):
    """Sets to zero what is drawn from torch's generators."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return out.zero_() if func in RANDOM and out.is_floating_point() else out
