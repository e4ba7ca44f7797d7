"""A watched run while its sampler works: steps are matched, the decision is made, the corrected run is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ...asced_core import Trajectory
from ...asced_core.kdiffusion import (
    SAME_SIGMA,
    Answer,
    Asked,
    Call,
    GlobalGenerators,
    NoiseTape,
    SecondRun,
    Steps,
    Stopwatch,
    WatchedModel,
)
from ...asced_core.kdiffusion.steps import OTHERWISE
from .earlier_steps import model_at, obstacle_to_redo
from .guidance import PromptReader
from .patch_probe import ACTS, NONE, memory_use
from .patch_state import PatchState
from .picking import Picking
from .plan import Plan
from .sampler_function import Start


@dataclass(eq=False)
class LiveRun:
    """Follows one run step by step.

    Attributes:
        plan, trajectory, watched, stopwatch: of the run.
        tape: records the sampler's noise; None if nothing is corrected at T_c.
        patches: what the model's patches remember.
        start: how the sampler's function was called.
        prompts: reads the prediction before guidance, for the run score.
        picking: picks the drafts that are finished; None finishes all images.
        acted: True once images were corrected.
        notes: what the user should know, as sentences.
    """

    plan: Plan
    trajectory: Trajectory
    watched: WatchedModel
    stopwatch: Stopwatch
    tape: NoiseTape | None
    patches: PatchState
    start: Start
    prompts: PromptReader
    picking: Picking | None = None
    acted: bool = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # with s_churn, the model is called at a higher level than that of the step
        known = self.plan.function.own and not self.start.options.get("s_churn")
        self._steps = Steps(self.plan.function.sigmas, known)
        self._reported = 0  # steps, before the current one
        self._second: SecondRun | None = None
        self._early: Any = None  # what the patches remembered after the first step
        self._one_call = True  # every step so far took one call
        self._postponed = False  # decided before the call of T_c, but it cannot be corrected before that
        self._expect()

    def on_step(self, report: dict[str, Any]) -> int | None:
        """Follows the sampler's report of a step; returns the step, or None if it is not one of this run's."""
        # a call with a part of the batch, or with several states at once, is not that of a step
        calls = tuple(call for call in self.watched.step if tuple(call.x.shape) == self.plan.shape)
        self._one_call &= len(self.watched.step) == 1
        if self.trajectory.decision is None or self._postponed:
            found = self._steps.find(report, calls)
            if found is not None:
                self._watch(*found)
            step = None if found is None else found[0]
        else:
            step = self._steps.last = self._steps.last + 1
            if calls and step < self.trajectory.schedule.steps:
                self.trajectory.observe(step, calls[-1].x, calls[-1].denoised, self.prompts.take())
                self._pick(step, calls[-1])
        self._reported += 1
        self.watched.next_step()
        if self.tape is not None:
            self.tape.next_step()
            if self._early is None:
                self._early = self.patches.read()
        self._expect()
        return step

    def _expect(self) -> None:
        """Before the step of the decision, everything is kept that a corrected call needs."""
        decision = self.trajectory.schedule.window.decision
        corrects = self.tape is not None and not self.acted and self._steps.last + 1 == decision
        picks = self.picking is not None and self.picking.asks and self.picking.due(self._steps.last + 1)
        self.watched.undoable = corrects or picks
        reads = self._steps.last + 1 == self.trajectory.score.step
        self.watched.prepare = self.prompts.reading if reads else None

    def _pick(self, step: int, call: Call) -> None:
        """Picks the drafts that are finished, after the step of that decision."""
        if self.picking is not None and self.picking.due(step) and self.trajectory.score.known:
            self.picking.pick(step, self.trajectory, self.watched, call, self.patches)

    def _watch(self, step: int, call: Call) -> None:
        trajectory, window = self.trajectory, self.trajectory.schedule.window
        with self.stopwatch.span("asced"):
            trajectory.observe(step, call.x, call.denoised, self.prompts.take())
        self._pick(step, call)
        if self._postponed:
            self._postponed = False
            self._correct(step, call)
            return
        with self.stopwatch.span("asced"):
            early = self._joins and trajectory.is_due_early(step)
            if not (early or trajectory.is_due(step)) or not self._steps.has_all(range(window.first, step + 1)):
                return
            if not trajectory.decide().acts:
                return
        obstacle = self._obstacle(step, call)
        if obstacle:
            trajectory.leave_alone()
            self.notes.append(f"Only watched: sampler {self.plan.function.name} {obstacle}.")
        elif early:
            self._postponed = self._memory_use(call, self.patches.read()) != NONE
            self.watched.before_next = None if self._postponed else self._join
        else:
            self._correct(step, call)

    @property
    def _joins(self) -> bool:
        """True if the sampler's next call is sure to be that of its next step, for both runs."""
        function = self.plan.function
        known = function.own and not function.skips and not self.start.options.get("s_churn")
        return known and self._one_call and not self.start.keep_original

    def _join(self, asked: Asked) -> None:
        """Corrects the state before the model sees it; the two runs share the call of T_c already."""
        trajectory, decision = self.trajectory, self.trajectory.decision
        assert decision is not None
        assert self.tape is not None
        told = float(torch.as_tensor(asked.sigma).flatten()[0])
        level = self.plan.function.sigmas[decision.step]
        if asked.x.shape != self.plan.shape or abs(told - level) > SAME_SIGMA * level:
            self._postponed = True
            return
        with self.stopwatch.span("asced"):
            corrected = trajectory.correct(decision, asked.x)
        second = self._begin(corrected, decision.step, asked.x, self.tape.position, dict(self.start.options))
        acting, area = decision.acting(len(asked.x)), self.start.area
        self.watched.join(second, asked.x, acting, self.patches.generators, area)
        self.acted = True

    def _obstacle(self, step: int, call: Call) -> str:
        """What keeps the sampler's function from being started at a step; empty if nothing does."""
        if self.tape is not None and not self.tape.replayable:
            return "draws noise that cannot be replayed"
        told = OTHERWISE if self._steps.told_otherwise else SAME_SIGMA
        return self.plan.function.obstacle_to_entry(
            self.watched,
            call.x,
            self.start.sigmas,
            step,
            self._reported,
            {**self.start.options, "extra_args": self.start.extra_args},
            self._sampler_state(call.x.device),
            told,
        )

    def _correct(self, step: int, call: Call) -> None:
        """Starts the corrected run; again with its patches undone if they answer differently because of a memory."""
        trajectory, decision = self.trajectory, self.trajectory.decision
        assert decision is not None
        before = self.patches.read()
        memory = self._memory_use(call, before)
        predict = None
        if trajectory.corrector.redoes:
            if reason := obstacle_to_redo(memory, self._steps.told_otherwise):
                trajectory.corrector.fall_back(reason)
            predict = model_at(self.watched, call, self.plan.function.sigmas, self.start.extra_args, self.patches)
        with self.stopwatch.span("asced"):
            corrected = trajectory.correct(decision, call.x, call.denoised, predict=predict)
        if predict is not None:  # its calls are recorded
            before = self.patches.read()
        for effects in self._tries(memory):
            self._abandon(before)
            answer = self._follow(step, call, corrected, effects, before)
            fresh, alike = answer.read()
            if fresh and alike:
                break
        if not fresh:
            self._abandon(before)
            trajectory.leave_alone()
            self.notes.append(
                "Not corrected: the model answers from a cache, so a correction would be undone; remove the node that "
                "caches its predictions."
            )
            return
        if not alike:
            self.notes.append(
                "A patch on this model depends on its earlier calls or on the whole batch, so images without a region "
                "may have changed, too."
            )
        self.acted = True
        # in place of the old prediction
        trajectory.observe(step, answer.call.x, answer.call.denoised, self.prompts.take())

    def _memory_use(self, call: Call, now: Any) -> str:
        return memory_use(self.watched.model, call, self.patches, self._early, now)

    def _tries(self, memory: str) -> list[PatchState]:
        """What an added call must leave as it was: as little as possible, since a patch may keep a record of calls."""
        tries: list[PatchState] = [] if memory == ACTS else [self.patches.generators]
        return tries if memory == NONE else [*tries, self.patches]

    def _follow(self, step: int, call: Call, corrected: torch.Tensor, effects: PatchState, now: Any) -> Answer:
        """Starts the second run from the corrected state; up to its first report."""
        function, start, decision = self.plan.function, self.start, self.trajectory.decision
        assert decision is not None
        acting = decision.acting(len(call.x))
        # images that could reach each other through a memory of the patches get calls of their own
        separate = start.keep_original or (effects is self.patches and not all(acting))
        options = {**start.options, "extra_args": start.extra_args} if separate else dict(start.options)
        second = self._begin(corrected, step, call.x, call.drawn, options)
        if self._steps.told_otherwise:
            self.watched.tolerance = OTHERWISE
        known = now if function.own else None  # a foreign sampler may change it before its first call
        return self.watched.follow(second, call, acting, effects, function.skips, start.area, separate, known)

    def _begin(
        self, corrected: torch.Tensor, step: int, x: torch.Tensor, drawn: int, options: dict[str, Any]
    ) -> SecondRun:
        """The second run from a corrected state; it repeats the noise of this step from a draw on."""
        function, start = self.plan.function, self.start
        assert self.tape is not None
        replay = self.tape.replay(drawn)
        if start.source is not None:
            options["noise_sampler"] = replay.source(start.source, x)
        entry = function.entry(step, start.sigmas)
        state = self._sampler_state(x.device)
        self._second = SecondRun(function.function, self.watched, corrected, entry, options, replay, state)
        return self._second

    def _abandon(self, before: Any) -> None:
        """Ends the second run, if there is one, and puts back what its calls have changed."""
        if self._second is None or self.tape is None:
            return
        self.watched.close()
        self.tape.stop()
        self.patches.write(before)
        self._second = None

    def _sampler_state(self, device: torch.device) -> GlobalGenerators | PatchState:
        """What the sampler's function may change besides its own variables."""
        if self.plan.function.own:
            return GlobalGenerators(device)
        options = {name: value for name, value in self.start.options.items() if name != "extra_args"}
        return PatchState([self.plan.function.function, options], device)

    def shown(self, report: dict[str, Any]) -> dict[str, Any]:
        """The report for ComfyUI's own callback, with the corrected images in its prediction."""
        if not self.acted or "denoised" not in report:
            return report
        return {**report, "denoised": self.watched.shown(report["denoised"])}

    def finish(self) -> None:
        """Adds what can only be said when the run has ended."""
        name, window = self.plan.function.name, self.trajectory.schedule.window
        if self.trajectory.decision is None and window.decision is not None:
            what = "does not report its predictions at the noise levels of this run's steps"
            if self._steps.went_back:
                what = "goes back to a higher noise level"
            self.notes.append(f"Not watched: sampler {name} {what}.")
        if self.watched.out_of_step:
            self.notes.append(
                f"Sampler {name} uses other noise levels when it starts in mid-run: corrected images may look wrong. "
                "Use another sampler, or correction method none."
            )
        elif self._second is not None and self._second.replay is not None and self._second.replay.missed:
            self.notes.append(
                f"Sampler {name} drew other noise for the corrected images: they may have changed outside of the "
                "regions as well."
            )
