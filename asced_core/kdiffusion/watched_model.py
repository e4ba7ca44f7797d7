"""The wrapper around the model while a run is watched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .noise_tape import NoiseTape
from .second_run import Asked, SecondRun
from .side_effects import SideEffects, World
from .stopwatch import Stopwatch

SAME_SIGMA = 1e-4  # relative tolerance; two runs on one schedule may differ by rounding
KEPT = 8  # calls of one step; a function that never reports a step must not fill the memory
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


@dataclass
class _Corrected:
    run: SecondRun
    places: Tensor  # bool: the part of the state that belongs to this run, broadcastable to it
    skips: int  # number of upcoming calls that this run does not share
    effects: SideEffects  # what its own calls must leave as it was
    world: World | None = None  # for calls of its own; None shares the first run's


class WatchedModel:
    """Wraps the sampler's model and remembers the calls of the current step; other attributes are passed through.

    Once there is a corrected run, each call serves both runs: the corrected images take their state from that run, the
    others from the first run.

    Args:
        model: the sampler's model.
        stopwatch: measures the time spent in the model.
        effects: what a model call may change besides its result.
        tape: records the sampler's noise; the model and everything else runs without it.
        copies: keeps copies of states and predictions, for samplers that may change them in place.

    Attributes:
        model: the sampler's model.
        calls, extra_calls: number of model evaluations, and of those that are made for the corrected run alone.
        step: the calls since the last step, oldest first.
        steer: maps sigma and prediction to the prediction that the sampler gets; None changes nothing.
        prepare: changes each call before it is made; None changes nothing.
        answering: answers the calls in place of the model; None is the model itself.
        undoable: True reads the side effects before each call, so that the call can be repeated as if for the first
            time.
        tolerance: relative difference up to which two noise levels count as the same.
    """

    def __init__(
        self,
        model: Any,
        stopwatch: Stopwatch,
        effects: SideEffects,
        tape: NoiseTape | None = None,
        copies: bool = False,
    ) -> None:
        self.model, self._stopwatch, self._effects, self._tape = model, stopwatch, effects, tape
        self._copies = copies
        self.calls, self.extra_calls = 0, 0
        self.step: deque[Call] = deque(maxlen=KEPT)
        self.steer: Callable[[Any, Tensor], Tensor] | None = None
        self.prepare: Callable[[Asked], Asked] | None = None
        self.answering: Callable[[Asked], Tensor] | None = None
        self.undoable = False
        self.tolerance = SAME_SIGMA
        self._corrected: _Corrected | None = None
        self._uneven = False
        self._apart: Tensor | None = None
        self._theirs: Tensor | None = None

    def __call__(self, x: Tensor, sigma: Any, *args: Any, **options: Any) -> Tensor:
        with self._tape.paused() if self._tape else nullcontext():
            first = Asked(x, sigma, args, options)
            before = self._effects.read() if self.undoable else None
            denoised, given = self._predict(first)
            returned = denoised if self.steer is None else self.steer(sigma, denoised)
            kept = (given.clone(), denoised.clone()) if self._copies else (given, denoised)
            self.step.append(Call(first, *kept, returned, self._tape.position if self._tape else 0, before))
            return returned

    def _predict(self, first: Asked) -> tuple[Tensor, Tensor]:
        """The first run's prediction, and its state; the corrected run gets its own prediction from the same call."""
        theirs, corrected = self._asked(), self._corrected
        if theirs is None or corrected is None:
            return self._call(first), first.x
        # stays on the device and is read once, at the end
        apart = (torch.as_tensor(theirs.sigma) - first.sigma).abs() > self.tolerance * torch.as_tensor(first.sigma)
        self._apart = apart.any() if self._apart is None else self._apart | apart.any()
        both = replace(first, x=torch.where(corrected.places, theirs.x, first.x))
        state = first.x
        if corrected.world is None:
            denoised, state = self._call(both), both.x
            self._theirs = denoised
        else:
            denoised = self._call(first)
            # with its own options: a sampler's hook that reads its guidance must not see the other run's
            with corrected.world.entered():
                self._theirs = self._call(replace(both, options=theirs.options), extra=True)
        corrected.run.answer(self._theirs.clone())  # each run may write into its own
        return denoised, state

    def _asked(self) -> Asked | None:
        """The corrected run's share of this call; None if it has none."""
        corrected = self._corrected
        if corrected is None:
            return None
        if corrected.skips:
            corrected.skips -= 1
            return None
        asked = corrected.run.asked()
        self._uneven |= asked is None
        return asked

    def _call(self, asked: Asked, extra: bool = False) -> Tensor:
        """Calls the model once."""
        with self._stopwatch.span("model"):
            asked = asked if self.prepare is None else self.prepare(asked)
            denoised: Tensor = self.answering(asked) if self.answering else asked.of(self.model)
        self.calls += 1
        self.extra_calls += extra
        return denoised

    def aside(self, asked: Asked, world: World) -> Tensor:
        """The answer to a call that is no part of the run; it leaves nothing behind outside of its world."""
        with self._stopwatch.span("model"), world.entered():
            answer = asked.of(self.model)
        self.calls += 1
        self.extra_calls += 1
        return answer

    def added(self, asked: Asked, world: World) -> Tensor:
        """The answer to a call that the run makes in addition; it leaves nothing behind outside of its world."""
        with world.entered():
            return self._call(asked, extra=True)

    def next_step(self) -> None:
        """Forgets the calls of the last step."""
        self.step.clear()

    def follow(
        self,
        run: SecondRun,
        call: Call,
        corrected: Sequence[bool],
        effects: SideEffects,
        skips: int = 0,
        area: Tensor | None = None,
        separate: bool = False,
    ) -> Answer:
        """From here on, the corrected images take their states from the second run.

        Args:
            run: the corrected run.
            call: the call of this step that is made again from the corrected state.
            corrected: for each item of the batch, whether it is corrected.
            effects: what the added calls must leave as it was; a part of what this model was given.
            skips: number of upcoming calls that the second run does not share.
            area: the inpainted area (> 0), same shape as the state; None is the whole image.
            separate: continue the first run as if nothing had been corrected, with separate model calls.

        Returns:
            The model's answer to the corrected state.
        """
        items = torch.tensor(corrected, device=call.x.device).view(-1, *[1] * (call.x.ndim - 1))
        # outside the inpainted area nothing changes
        places = items if area is None else items & (area > 0)
        own = self._corrected = _Corrected(run, places, skips, effects)  # set first, so that close() always reaches it
        world = World(effects, effects.read() if call.before is None else call.before)
        # what the first run told the model in this step: its own levels may depend on how long the run is
        told = deque(list(self.step)[self.step.index(call) :])
        answers: list[Call] = []

        def again(asked: Asked) -> Tensor:
            if told:
                asked = replace(asked, sigma=told.popleft().asked.sigma)
            denoised = self.added(asked, world)
            answers.append(Call(asked, asked.x, denoised, denoised))
            return denoised

        run.first_step(again)
        if separate:
            own.world = world
        elif all(corrected):  # no image of the first run is left, so what is remembered belongs to the corrected ones
            effects.write(effects.combined(effects.read(), world.state))
        return Answer(answers[0], call, items)

    @property
    def out_of_step(self) -> bool:
        """True if the corrected run made other calls than the first run; one device sync."""
        return self._uneven or (self._apart is not None and bool(self._apart))

    def shown(self, denoised: Tensor) -> Tensor:
        """The prediction for the preview: the first run's, with the corrected images inserted."""
        corrected = self._corrected
        if corrected is None or corrected.world is None or self._theirs is None:
            return denoised
        return torch.where(corrected.places, self._theirs, denoised)

    def merge(self, samples: Tensor) -> Tensor:
        """The final state, combined from both runs."""
        corrected = self._corrected
        if corrected is None:
            return samples
        world = World(corrected.effects, corrected.effects.read())

        def alone(asked: Asked) -> Tensor:
            self._uneven = True
            return self.added(asked, world)

        return torch.where(corrected.places, corrected.run.result(alone), samples)

    def close(self) -> None:
        """Ends the corrected run, if there is one."""
        if self._corrected is not None:
            self._corrected.run.close()
            self._corrected = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """That of the model, for samplers that ask."""
        return type(self.model)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """What a sampler sets belongs to the model."""
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.model, name, value)


_OWN = frozenset((
    "model", "calls", "extra_calls", "step", "steer", "prepare", "answering", "undoable", "tolerance", "_stopwatch",
    "_effects", "_tape", "_copies", "_corrected", "_uneven", "_apart", "_theirs",
))  # fmt: skip


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
