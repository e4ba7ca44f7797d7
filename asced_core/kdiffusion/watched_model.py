"""The wrapper around the model while a run is watched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .calls import Answer, Call
from .noise_tape import NoiseTape
from .second_run import Asked, SecondRun
from .side_effects import SideEffects, World
from .stopwatch import Stopwatch

SAME_SIGMA = 1e-4  # relative tolerance; two runs on one schedule may differ by rounding
KEPT = 8  # calls of one step; a function that never reports a step must not fill the memory


@dataclass
class _Corrected:
    run: SecondRun
    places: Tensor  # bool: the part of the state that belongs to this run, broadcastable to it
    skips: int  # number of upcoming calls that this run does not share
    effects: SideEffects  # what its own calls must leave as it was
    world: World | None = None  # for calls of its own; None shares the first run's
    joins: bool = False  # the next call is the first one that it shares


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
        before_next: called once with the next call, before it is made; it may start the corrected run.
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
        self.before_next: Callable[[Asked], None] | None = None
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
            if self.before_next is not None:
                begin, self.before_next = self.before_next, None
                begin(first)
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
        if corrected.joins:  # hooks that the second run has just added are not yet among the first run's options
            both, corrected.joins = replace(both, options=theirs.options), False
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

    def added(self, asked: Asked, world: World, outside: Any = None) -> Tensor:
        """The answer to a call that the run makes in addition; it leaves nothing behind outside of its world."""
        with world.entered(outside):
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
        now: Any = None,
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
            now: the side effects at this moment, if they were read: on a large network, that takes milliseconds.

        Returns:
            The model's answer to the corrected state.
        """
        items, places = _places(call.x, corrected, area)
        own = self._corrected = _Corrected(run, places, skips, effects)  # set first, so that close() always reaches it
        world = World(effects, effects.read() if call.before is None else call.before)
        # what the first run told the model in this step: its own levels may depend on how long the run is
        told = deque(list(self.step)[self.step.index(call) :])
        answers: list[Call] = []

        def again(asked: Asked) -> Tensor:
            if told:
                asked = replace(asked, sigma=told.popleft().asked.sigma)
            denoised = self.added(asked, world, now)
            answers.append(Call(asked, asked.x, denoised, denoised))
            return denoised

        run.first_step(again)
        if separate:
            own.world = world
        elif all(corrected):  # no image of the first run is left, so what is remembered belongs to the corrected ones
            effects.adopt(world.state)
        return Answer(answers[0], call, items)

    def join(
        self, run: SecondRun, x: Tensor, corrected: Sequence[bool], effects: SideEffects, area: Tensor | None = None
    ) -> None:
        """From the next call on, the corrected images take their states from the second run: no call is added.

        Args:
            run: the corrected run; its first call is the first run's next one.
            x: the first run's state, for its shape and device.
            corrected, effects, area: see ``follow``.
        """
        _, places = _places(x, corrected, area)
        self._corrected = _Corrected(run, places, 0, effects, joins=True)

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
        world: World | None = None  # a run in step with the first one needs none

        def alone(asked: Asked) -> Tensor:
            nonlocal world
            world = world or World(corrected.effects, corrected.effects.read())
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


def _places(x: Tensor, corrected: Sequence[bool], area: Tensor | None) -> tuple[Tensor, Tensor]:
    """The corrected items of a batch, and the part of the state that is theirs; both broadcastable to the state."""
    items = torch.tensor(corrected, device=x.device).view(-1, *[1] * (x.ndim - 1))
    return items, items if area is None else items & (area > 0)  # outside the inpainted area nothing changes


_OWN = frozenset((
    "model", "calls", "extra_calls", "step", "steer", "prepare", "answering", "before_next", "undoable", "tolerance",
    "_stopwatch", "_effects", "_tape", "_copies", "_corrected", "_uneven", "_apart", "_theirs",
))  # fmt: skip
