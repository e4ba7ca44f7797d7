"""A watched run while its sampler works: the decision at T_c, and the corrected run in step with the first.

No sampler is known by name: each is tried without its model before it is started in mid-run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ...decision import Decision
from ...kdiffusion import SAME_SIGMA, Call, NoiseTape, SecondRun, Steps, Stopwatch, WatchedModel, obstacle_to_entry
from ...kdiffusion.steps import OTHERWISE
from ...trajectory import Trajectory
from .memory import Generators, Memory


class Live:
    """Follows one call of a sampler's function.

    Args:
        name: of the sampler, as shown to users.
        function: the sampler's.
        trajectory: of the run.
        model: the WebUI's ``model_wrap_cfg``.
        x: the first state.
        rng: the WebUI's ``p.rng``.
        options: the function's keyword arguments, ``sigmas`` among them.

    Attributes:
        trajectory: as given.
        watched: the model, with the number of its calls.
        stopwatch: time spent in the model and in ASCED.
        notes: what the user should know, as sentences.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Tensor],
        trajectory: Trajectory,
        model: Any,
        x: Tensor,
        rng: Any,
        options: dict[str, Any],
    ) -> None:
        self._name, self._function, self._x, self.trajectory = name, function, x, trajectory
        self._sigmas, self._callback = options["sigmas"], options.get("callback")
        self._disable = options.get("disable")
        self._options = {n: v for n, v in options.items() if n not in ("sigmas", "callback", "disable")}
        self.stopwatch = Stopwatch(x.device)
        self._generators = Generators(x.device, rng)
        self._memory = Memory(self._generators, model)
        self._tape = NoiseTape() if trajectory.corrector.settings.acts else None
        self.watched = WatchedModel(model, self.stopwatch, self._memory, self._tape, copies=True)
        self._steps = Steps(self._sigmas.tolist())
        self._reported = 0  # steps, before the current one
        self._second: SecondRun | None = None
        self.notes: list[str] = []
        self._expect()

    def sample(self) -> Tensor:
        """The function's result, with the corrected images in it."""
        own = dict(self._options)
        if self._tape is not None and self._source is not None:
            own["noise_sampler"] = self._tape.source(self._source)
        try:
            with self._tape or nullcontext():
                first = self._function(
                    self.watched, self._x, sigmas=self._sigmas, callback=self._on_step, disable=self._disable, **own
                )
            samples = self.watched.merge(first)
            self._finish()
            return samples
        finally:
            self.watched.close()
            self.trajectory.corrector.forget()

    @property
    def _source(self) -> Callable[..., Tensor] | None:
        """A noise source that the WebUI made for the whole run, such as a Brownian tree."""
        given = self._options.get("noise_sampler")
        return given if callable(given) else None

    def _on_step(self, report: dict[str, Any]) -> None:
        with self._tape.paused() if self._tape else nullcontext():
            self._follow(report)
            if self._callback is not None:
                self._callback(report)

    def _follow(self, report: dict[str, Any]) -> None:
        trajectory = self.trajectory
        calls = tuple(call for call in self.watched.step if call.x.shape == self._x.shape)
        if trajectory.decision is None:
            found = self._steps.find(report, calls)
            if found is not None:
                self._watch(*found)
        else:
            step = self._steps.last = self._steps.last + 1
            if calls and step < trajectory.schedule.steps:
                trajectory.observe(step, calls[-1].x, calls[-1].denoised)
        self._reported += 1
        self.watched.next_step()
        if self._tape is not None:
            self._tape.next_step()
        self._expect()

    def _expect(self) -> None:
        """Before the step of the decision, everything is kept that a corrected call needs."""
        decision = self.trajectory.schedule.window.decision
        self.watched.undoable = self._tape is not None and self._steps.last + 1 == decision

    def _watch(self, step: int, call: Call) -> None:
        trajectory, window = self.trajectory, self.trajectory.schedule.window
        with self.stopwatch.span("asced"):
            trajectory.observe(step, call.x, call.denoised)
            if not trajectory.is_due(step) or not self._steps.has_all(range(window.first, step + 1)):
                return
            decision = trajectory.decide()
        if not decision.acts:
            return
        if obstacle := self._obstacle(step, call):
            trajectory.leave_alone()
            self.notes.append(f"Only watched: sampler {self._name} {obstacle}.")
        else:
            self._correct(step, call, decision)

    def _obstacle(self, step: int, call: Call) -> str:
        """What keeps the function from being started at a step; empty if nothing does."""
        if self._tape is not None and not self._tape.replayable:
            return "draws noise that cannot be replayed"
        if getattr(self.watched.model, "need_last_noise_uncond", False):
            return "reads the guidance between two model calls"
        return obstacle_to_entry(
            self._function,
            self.watched,
            lambda x, *_, **__: torch.zeros_like(x),
            call.x,
            self._sigmas,
            step,
            self._reported,
            self._options,
            self._generators,
            OTHERWISE if self._steps.told_otherwise else SAME_SIGMA,
        )

    def _correct(self, step: int, call: Call, decision: Decision) -> None:
        """Starts the corrected run, up to its first report."""
        assert self._tape is not None
        trajectory, options = self.trajectory, dict(self._options)
        with self.stopwatch.span("asced"):
            corrected = trajectory.correct(decision, call.x, call.denoised)
        replay = self._tape.replay(call.drawn)
        if self._source is not None:
            options["noise_sampler"] = replay.source(self._source, call.x)
        self._second = SecondRun(
            self._function, self.watched, corrected, self._sigmas[step:].clone(), options, replay, self._generators
        )
        if self._steps.told_otherwise:
            self.watched.tolerance = OTHERWISE
        before = self._memory.read()
        area = getattr(self.watched.model, "nmask", None)  # above 0 where inpainting paints
        answer = self.watched.follow(self._second, call, decision.acting(len(call.x)), self._memory, area=area)
        fresh, alike = answer.read()
        if not fresh:
            self._abandon(before)
            return
        if not alike:
            self.notes.append(
                "An extension on this model remembers its earlier calls or looks at the whole batch, so images without "
                "a region may have changed, too."
            )
        trajectory.observe(step, answer.call.x, answer.call.denoised)  # in place of the old prediction

    def _abandon(self, before: Any) -> None:
        """Ends the corrected run, as if there had been none."""
        assert self._tape is not None
        self.watched.close()
        self._tape.stop()
        self._memory.write(before)
        self._second = None
        self.trajectory.leave_alone()
        self.notes.append(
            "Not corrected: the model answers from a cache, so a correction would be undone; switch off the extension "
            "that caches its predictions."
        )

    def _finish(self) -> None:
        """Adds what can only be said when the run has ended."""
        window = self.trajectory.schedule.window
        if self.trajectory.decision is None and window.decision is not None:
            what = "does not report its predictions at the noise levels of this run's steps"
            if self._steps.went_back:
                what = "goes back to a higher noise level"
            self.notes.append(f"Not watched: sampler {self._name} {what}.")
        if self.watched.out_of_step:
            self.notes.append(
                f"Sampler {self._name} uses other noise levels when it starts in mid-run: corrected images may look "
                "wrong. Choose another sampler, or uncheck Correct."
            )
        elif self._second is not None and self._second.replay is not None and self._second.replay.missed:
            self.notes.append(
                f"Sampler {self._name} drew other noise for the corrected images: they may have changed outside of the "
                "regions as well."
            )
