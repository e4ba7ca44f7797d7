"""One watched run of a sampler, from its start to its report.

A run is watched from inside SAMPLER_SAMPLE: for that one run, our function replaces the sampler's, calls it, and
sees every model call and every step. At T_c the sampler's function is called a second time, from the corrected state
on the remaining noise levels; see asced_core/kdiffusion. Editing the state in place would go wrong in most samplers,
which have already used it or keep a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial, update_wrapper
from typing import Any

import torch

from ...asced_core import CorrectionSettings, DetectionSettings, Report, RunFacts, Trajectory, unwatched_report
from ...asced_core.baselines.steering import Steering
from ...asced_core.kdiffusion import SAME_SIGMA, NoiseTape, SecondRun, Stopwatch, WatchedModel
from ...asced_core.maps import frames_of
from ..page.preview import Preview
from .model_identity import model_identity
from .plan import Plan, image_size


class Run:
    """One sampling run, from its start to its report.

    Args:
        plan: how it is watched.
        patcher: ComfyUI's ModelPatcher.
        sampler: ComfyUI's sampler object.
        noise: of the run, for its shape and device.
        keep_original: also finishes the run without a correction.

    Attributes:
        preview: shows the run in the browser.
        original: the sampler's result without a correction, if it was kept and anything was corrected.
    """

    def __init__(self, plan: Plan, patcher: Any, sampler: Any, noise: torch.Tensor, keep_original: bool) -> None:
        self._plan, self._patcher, self._sampler = plan, patcher, sampler
        self._shape = tuple(noise.shape)
        self._stopwatch = Stopwatch(noise.device)
        self._keep_original = keep_original
        self._notes: list[str] = []
        self._trajectory: Trajectory | None = None
        self._steering: Steering | None = None
        self._calls, self._restarts, self._double_calls = 0, 0, 0
        self.preview = Preview()
        self.original: torch.Tensor | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Replaces the sampler's function with ours inside the block, and restores it afterwards, whatever happens."""
        original = self._plan.function.function
        # with the name and signature of the original, which other code may read
        self._sampler.sampler_function = update_wrapper(partial(self._sample), original)
        try:
            yield
        finally:
            self._sampler.sampler_function = original

    def _sample(
        self,
        model: Any,
        x: torch.Tensor,
        sigmas: torch.Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Any = None,
        disable: bool | None = None,
        **options: Any,
    ) -> torch.Tensor:
        """Replaces the sampler's function; same arguments, and the same result if nothing is corrected."""
        # reset, in case ComfyUI samples again after an error
        self._notes = list(self._plan.notes)
        trajectory = self._trajectory = self._plan.trajectory()
        self._restarts, self.original = 0, None
        function, area = self._plan.function, (extra_args or {}).get("denoise_mask")
        watched = WatchedModel(model, self._stopwatch, self._keep_original)
        self._steer(watched, area)
        own = {"extra_args": extra_args, **options}
        # a copy, because some functions add their own hooks to it
        second_own = {**own, "extra_args": dict(extra_args or {})} if self._keep_original else own
        tape = None
        if options.get("noise_sampler") is None:
            source = function.noise_source(x, sigmas, (extra_args or {}).get("seed"))
            if source is not None:
                tape = own["noise_sampler"] = NoiseTape(source)

        def on_step(info: dict[str, Any]) -> None:
            step = info["i"]
            corrected = self._watch(trajectory, step, watched)
            if corrected is not None and trajectory.decision is not None:
                theirs = {**second_own, "noise_sampler": tape.second()} if tape else second_own
                second = SecondRun(function.function, watched, corrected, function.entry(step, sigmas), theirs)
                watched.follow(second, trajectory.decision.acting(len(x)), function.skips, area)
                self._restarts += 1
                self._watch(trajectory, step, watched)  # the new prediction replaces the old one
            self.preview.show(trajectory, step)
            if callback is not None:
                callback({**info, "denoised": watched.shown(info["denoised"])})

        try:
            first = function.function(watched, x, sigmas, callback=on_step, disable=disable, **own)
            samples = watched.merge(first)
            if self._keep_original and self._restarts:
                self.original = first
            if watched.out_of_step:
                self._notes.append(
                    f"Sampler {function.name} uses other noise levels when it starts in mid-run: corrected images may "
                    "look wrong. Use another sampler, or correction method none."
                )
            return samples
        finally:
            self._calls, self._double_calls = watched.calls, watched.double_calls
            watched.close()

    def _watch(self, trajectory: Trajectory, step: int, watched: WatchedModel) -> torch.Tensor | None:
        """Passes the step to the trajectory; returns the corrected state, if there is one."""
        if step >= trajectory.schedule.steps:
            return None
        with self._stopwatch.span("asced"):
            trajectory.observe(step, watched.x, watched.denoised)
            if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
                return trajectory.correct(decision, watched.x, watched.denoised)
        return None

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
        facts = RunFacts(
            sampler=self._plan.function.name,
            seed=self._plan.seed,
            model_calls=self._calls,
            extra_model_calls=self._restarts + self._double_calls,
            seconds_model=self._stopwatch.seconds("model"),
            seconds_asced=self._stopwatch.seconds("asced"),
            space=self._plan.space.name,
            image_size=image_size(self._patcher, self._shape),
            frames=frames_of(self._shape),
            model=model_identity(self._patcher),
        )
        if self._trajectory is not None and self._trajectory.decision is not None:
            learned_on = self._plan.detection.learned_on
            report = self._trajectory.report(facts, (*learned_on.notes(facts), *self._notes))
            return report if self._steering is None else self._steering.finish(report)
        notes = self._plan.schedule.window.notes if self._trajectory is not None else ()
        settings, correction = self._plan.detection.settings, self._plan.correction
        sigmas = self._plan.function.sigmas
        return unwatched(self._shape, sigmas, settings, correction, facts, (*notes, *self._notes))


def unwatched(
    shape: Sequence[int],
    sigmas: tuple[float, ...],
    detection: DetectionSettings,
    correction: CorrectionSettings,
    facts: RunFacts,
    notes: tuple[str, ...],
) -> Report:
    """The report of a run that was not watched, for latents [B,C,…,H,W]; packed latents have no size."""
    size = (shape[0], 1, 1) if len(shape) < 4 else (shape[0] * frames_of(tuple(shape)), shape[-2], shape[-1])
    return unwatched_report(size, sigmas, detection, correction, facts, notes)
