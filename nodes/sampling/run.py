"""One watched run of a sampler, from its start to its report.

A run is watched from inside SAMPLER_SAMPLE: for that one run, a copy of the sampler gets our function in place of its
own. It calls the sampler's, and sees every model call and every step. At T_c the sampler's function is called a second
time, from the corrected state on the remaining noise levels; see asced_core/kdiffusion. Editing the state in place
would go wrong in most samplers, which have already used it or keep a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial, update_wrapper
from typing import Any

import torch

from ...asced_core import CorrectionSettings, DetectionSettings, Report, RunFacts, Trajectory, unwatched_report
from ...asced_core.baselines.steering import Steering
from ...asced_core.kdiffusion import SAME_SIGMA, NoiseTape, Stopwatch, WatchedModel
from ...asced_core.maps import frames_of
from ...asced_core.report.joining import with_drafts
from ..page.preview import Preview
from .guidance import PromptReader, guidance_scale
from .live_run import LiveRun
from .model_identity import model_identity
from .one_draft import DivergedError, StoppedError
from .patch_state import PatchState
from .picking import Picking
from .plan import Plan, image_size, picture_shape
from .prompts import several_prompts
from .sampler_function import Start
from .spaces import UnwatchableError

NOT_PICKED = "All drafts were finished and kept: their predictions could not be read during this run."


class Run:
    """One sampling run, from its start to its report.

    Args:
        plan: how it is watched.
        guider: ComfyUI's, with its model loaded.
        sampler: ComfyUI's sampler object; it is never written to.
        noise: of the run, for its shape and device.
        keep_original: also finishes the run without a correction.

    Raises:
        UnwatchableError: the sampler cannot be copied.

    Attributes:
        sampler: a copy of the sampler that is watched when it samples.
        original: the sampler's result without a correction, if it was kept and anything was corrected.
    """

    def __init__(self, plan: Plan, guider: Any, sampler: Any, noise: torch.Tensor, keep_original: bool) -> None:
        self._plan, self._guider, self._patcher = plan, guider, guider.model_patcher
        self._stopwatch = Stopwatch(noise.device)
        self._keep_original = keep_original
        self._picking: Picking | None = None
        self._notes: list[str] = []
        self._trajectory: Trajectory | None = None
        self._steering: Steering | None = None
        self._calls, self._extra_calls = 0, 0
        self._preview = Preview(self._patcher)
        self.original: torch.Tensor | None = None
        try:
            self.sampler = copy.copy(sampler)
            # with the name and signature of the original, which other code may read
            self.sampler.sampler_function = update_wrapper(partial(self._sample), plan.function.function)
        except Exception as error:  # whatever a foreign class raises
            raise UnwatchableError(f"sampler {plan.function.name} cannot be copied ({error})") from error

    def _sample(self, model: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        """Replaces the sampler's function; same arguments, and the same result if nothing is corrected."""
        draft = None if self._plan.drafts is None else self._plan.drafts.draft
        if draft is None:
            return self._once(model, x, *args, **options)
        try:
            return self._once(model, x.clone(), *args, **options)
        except StoppedError:
            return x  # nothing looks at it
        except DivergedError:
            draft.forget()
        return self._once(model, x, *args, **options)  # with nothing of the first attempt in memory

    def _once(
        self,
        model: Any,
        x: torch.Tensor,
        sigmas: torch.Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Any = None,
        disable: bool | None = None,
        **options: Any,
    ) -> torch.Tensor:
        # reset, in case ComfyUI samples again after an error
        self._notes = list(self._plan.notes)
        trajectory = self._trajectory = self._plan.trajectory()
        self._calls, self._extra_calls, self.original = 0, 0, None
        function, extra = self._plan.function, extra_args or {}
        own = {"extra_args": extra_args, **options}
        tape, source = NoiseTape() if self._plan.correction.acts else None, None
        given = options.get("noise_sampler")
        if given is None and (each := function.noise_of_each(x, sigmas, self._plan.seeds)) is not None:
            given = own["noise_sampler"] = each
        if tape is not None:
            source = function.noise_source(given, x, sigmas, extra.get("seed"))
            if source is not None:
                own["noise_sampler"] = tape.source(source)
        patches = PatchState([extra.get("model_options"), *self._patched()], x.device)
        watched = WatchedModel(model, self._stopwatch, patches, tape, copies=not function.own)
        start = Start(sigmas, own, dict(extra), source, self._keep_original)
        self._picking = self._pick()
        if self._picking is not None:
            self._picking.begin(watched, patches)
        prompts = PromptReader(self._guider)
        live = LiveRun(self._plan, trajectory, watched, self._stopwatch, tape, patches, start, prompts, self._picking)
        self._steer(watched, start.area)

        def on_step(report: dict[str, Any]) -> None:
            with tape.paused() if tape else nullcontext():
                step = live.on_step(report)
                shown = live.shown(report)
                if callback is not None:
                    callback(shown)
                if step is None:
                    return
                if callback is not None and "denoised" in shown:
                    self._preview.paint(trajectory, step, shown["denoised"])
                self._preview.show(trajectory, step)

        try:
            with tape or nullcontext():
                first = function.function(watched, x, sigmas, callback=on_step, disable=disable, **own)
            samples = watched.merge(first)
            if self._keep_original and live.acted:
                self.original = first
            live.finish()
            self._notes += live.notes
            return samples
        finally:
            self._calls, self._extra_calls = watched.calls, watched.extra_calls
            watched.close()
            trajectory.corrector.forget()

    def _pick(self) -> Picking | None:
        if self._plan.drafts is None:
            return None
        return Picking(self._plan.drafts, self._guider, self._plan.shape, self._plan.schedule.steps)

    def _patched(self) -> list[Any]:
        """What packs may have hung on to the model, and a guider of their own."""
        return [getattr(self._patcher, "object_patches", {}), self._patcher.model.diffusion_model, self._guider]

    def _steer(self, watched: WatchedModel, area: torch.Tensor | None) -> None:
        """Attaches a method that changes every prediction of the window to the model."""
        steering = self._steering = self._plan.steering()
        if steering is None:
            return
        if self._keep_original:
            method = self._plan.correction.method
            self._notes.append(
                f"keep_original has no effect with method {method}, which changes every step of the window."
            )
        levels = self._plan.function.sigmas[:-1]

        def steer(sigma: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
            level = float(sigma.flatten()[0])
            step = next((i for i, s in enumerate(levels) if abs(s - level) <= SAME_SIGMA * s), None)
            if step is None:
                return denoised  # an evaluation between two steps
            with self._stopwatch.span("asced"):
                steered = steering(step, denoised)
                return steered if area is None else torch.where(area > 0, steered, denoised)

        watched.steer = steer

    def report(self) -> Report:
        """The report of the run; call it when the run has ended."""
        facts = run_facts(
            self._patcher,
            self._plan.shape,
            self._stopwatch,
            sampler=self._plan.function.name,
            seed=self._plan.seed,
            model_calls=self._calls,
            extra_model_calls=self._extra_calls,
            space=self._plan.space.name,
            several_prompts=self._plan.shape[0] > 1 and several_prompts(self._guider),
            cfg=guidance_scale(self._guider),
        )
        return self._with_drafts(self._found(facts))

    def _found(self, facts: RunFacts) -> Report:
        trajectory = self._trajectory
        if trajectory is not None and trajectory.decision is not None:
            shape = self._plan.shape
            report = trajectory.report(
                facts, (*self._plan.detection.notes(facts, (shape[-2], shape[-1])), *self._notes)
            )
            return report if self._steering is None else self._steering.finish(report)
        notes = self._plan.schedule.window.notes
        if trajectory is None:
            notes = (f"Not watched: sampler {self._plan.function.name} did not call its own function.",)
        settings, correction = self._plan.detection.settings, self._plan.correction
        sigmas = self._plan.function.sigmas
        report = unwatched(self._plan.shape, sigmas, settings, correction, facts, (*notes, *self._notes))
        return report if trajectory is None else trajectory.scored(report)

    def _with_drafts(self, report: Report) -> Report:
        if self._plan.drafts is None:
            return report
        picking = self._picking
        if picking is None or picking.drafts is None:
            return replace(report, notes=(*report.notes, NOT_PICKED))
        notes = (*report.notes, picking.note) if picking.note else report.notes
        return with_drafts(replace(report, notes=notes), picking.drafts)


def run_facts(patcher: Any, shape: Sequence[int], stopwatch: Stopwatch | None = None, **facts: Any) -> RunFacts:
    """Facts about a run on a model, for latents of this shape; waits for the device."""
    model = model_identity(patcher)  # milliseconds of work before it waits, while the device may still be busy
    if stopwatch is not None:
        facts |= {f"seconds_{name}": stopwatch.seconds(name) for name in ("model", "asced")}
    shape = picture_shape(patcher, shape)
    return RunFacts(image_size=image_size(patcher, shape), frames=frames_of(shape), model=model, **facts)


def unwatched(
    shape: tuple[int, ...],
    sigmas: tuple[float, ...],
    detection: DetectionSettings,
    correction: CorrectionSettings,
    facts: RunFacts,
    notes: tuple[str, ...],
) -> Report:
    """The report of a run that was not watched, for latents [B,C,…,H,W]; packed latents and [B,C] have no size."""
    size = (shape[0], 1, 1) if len(shape) < 4 else (shape[0] * frames_of(shape), shape[-2], shape[-1])
    return unwatched_report(size, sigmas, detection, correction, facts, notes)
