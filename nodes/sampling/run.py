"""One watched run of a sampler, from its start to its report.

A run is watched from inside SAMPLER_SAMPLE: a function of ours takes the place of the sampler's for that one
run, calls it, and sees every model call and every step. At T_c the sampler's function is called a second time,
from the corrected state on the remaining noise levels; see asced_core/kdiffusion. Editing the state in place would go
wrong in most samplers, which have used it already or keep a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial, update_wrapper
from typing import Any

import torch

from ...asced_core import Report, Trajectory
from ...asced_core.kdiffusion.second_run import Lane, NoiseTape
from ...asced_core.kdiffusion.stopwatch import Stopwatch
from ...asced_core.kdiffusion.watched_model import SAME_SIGMA, WatchedModel
from ...asced_core.maps import frames_of
from ...asced_core.report.facts import RunFacts
from ...asced_core.report.report import build_report, empty_report
from ..page.preview import Live
from ..page.status import log
from .options import CorrectionChoice, DetectionChoice
from .plan import Plan, image_size
from .sampler_function import SamplerFunction


class Run:
    """One sampling run, from its start to its report.

    Attributes:
        original: the sampler's result without a correction, if it was kept and anything was corrected.

    Raises:
        ValueError: a VAE or a mask of the settings does not fit this run.
    """

    def __init__(
        self,
        guider: Any,
        sampler: Any,
        sigmas: torch.Tensor,
        noise: torch.Tensor,
        seed: int,
        detection: DetectionChoice,
        correction: CorrectionChoice,
        items: Sequence[int] | None = None,
    ) -> None:
        self._patcher, self._sampler, self._seed = guider.model_patcher, sampler, seed
        self._detection, self._correction = detection.settings, correction.settings
        self._shape = tuple(noise.shape)
        self._function = SamplerFunction(sampler, sigmas)
        self._plan = Plan(guider, self._function, self._shape, seed, detection, correction, items)
        self._sigmas = self._function.sigmas
        self._stopwatch = Stopwatch(noise.device)
        self._notes: list[str] = []
        self._trajectory: Trajectory | None = None
        self.live = Live()
        self._calls, self._restarts, self._double_calls = 0, 0, 0
        self._keep_original = correction.keep_original
        self.original: torch.Tensor | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The sampler's function is ours inside the block, and its own again after it, whatever happens."""
        if reason := self._plan.obstacle:
            self._notes.append(f"Not watched: {reason}.")
            log.warning("%s", self._notes[-1])  # a patched model alone has no node that would say it
            yield
            return
        original = self._function.function
        # named and signed as the original, for whoever asks it for its name
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
        """Stands in for the sampler's function; same arguments, same result where nothing is corrected."""
        # anew, should the host sample a second time after an error
        self._notes.clear()
        self._trajectory, self._restarts, self.original = self._plan.trajectory(self._notes), 0, None
        function, watched = self._function, WatchedModel(model, self._stopwatch, self._keep_original)
        if self._trajectory.correction.steers:
            watched.steer = partial(self._steer, area=(extra_args or {}).get("denoise_mask"))
            if self._keep_original:
                method = self._correction.method
                self._notes.append(
                    f"No uncorrected run beside method {method}, which changes every step of the window."
                )
        own = {"extra_args": extra_args, **options}
        # a copy, because some functions put hooks of their own into it
        lanes_own = {**own, "extra_args": dict(extra_args or {})} if self._keep_original else own
        tape = None
        if options.get("noise_sampler") is None:
            source = self._function.noise_source(x, sigmas, (extra_args or {}).get("seed"))
            if source is not None:
                tape = own["noise_sampler"] = NoiseTape(source)

        def on_step(info: dict[str, Any]) -> None:
            corrected = self._watch(info["i"], watched)
            if corrected is not None:
                theirs = {**lanes_own, "noise_sampler": tape.follower()} if tape else lanes_own
                rest = function.entry(info["i"], sigmas)
                lane = Lane(function.function, watched, corrected, rest, theirs)
                images = self._trajectory.acting  # type: ignore[union-attr]
                watched.follow(lane, images, function.calls_behind, (extra_args or {}).get("denoise_mask"))
                self._restarts += 1
                self._watch(info["i"], watched)  # the new prediction takes the old one's place
            if self._trajectory is not None:
                self.live.tell(self._trajectory, info["i"])
            if callback is not None:
                callback({**info, "denoised": watched.shown(info["denoised"])})

        try:
            first = function.function(watched, x, sigmas, callback=on_step, disable=disable, **own)
            samples = watched.merge(first)
            if self._keep_original and self._restarts and watched.steer is None:
                self.original = first
            if watched.out_of_step:
                self._notes.append(
                    f"Sampler {function.name} does not keep step with itself when it starts in "
                    "mid-run: corrected images may look wrong; use another sampler or correction method none."
                )
            return samples
        finally:
            self._calls, self._double_calls = watched.calls, watched.double_calls
            watched.close()

    def _watch(self, step: int, watched: WatchedModel) -> torch.Tensor | None:
        """Shows the step to the trajectory; the corrected state where there is one."""
        trajectory = self._trajectory
        if trajectory is None or step >= len(self._sigmas) - 1:
            return None
        with self._stopwatch.span("asced"):
            trajectory.observe(step, watched.x, watched.denoised)
            if trajectory.is_due(step) and trajectory.decide():
                return trajectory.correct(watched.x, watched.denoised)
        return None

    def _steer(self, sigma: torch.Tensor, denoised: torch.Tensor, area: torch.Tensor | None) -> torch.Tensor:
        """The prediction that the sampler goes on with; evaluations between two steps are left alone."""
        level = float(sigma.flatten()[0])
        steps = [i for i, s in enumerate(self._sigmas[:-1]) if abs(s - level) <= SAME_SIGMA * s]
        if self._trajectory is None or not steps:
            return denoised
        with self._stopwatch.span("asced"):
            steered = self._trajectory.steer(steps[0], denoised)
            return steered if area is None else torch.where(area > 0, steered, denoised)

    def report(self) -> Report:
        """What was found; call it when the run has ended."""
        facts = RunFacts(
            sampler=self._function.name,
            seed=self._seed,
            model_calls=self._calls,
            extra_model_calls=self._restarts + self._double_calls,
            seconds_model=self._stopwatch.seconds("model"),
            seconds_asced=self._stopwatch.seconds("asced"),
            space=self._plan.signal.space,
            image_size=image_size(self._patcher, self._shape),
            frames=frames_of(self._shape),
        )
        notes = tuple(self._notes)
        if self._trajectory is not None and self._trajectory.detections:
            return build_report(self._trajectory, facts, notes)
        if self._trajectory is not None:
            notes = self._trajectory.window.notes + notes
        size = mask_size(self._shape)
        return empty_report(size, self._sigmas, self._detection, self._correction, facts, notes)


def mask_size(shape: Sequence[int]) -> tuple[int, int, int]:
    """Images, height and width of the masks of latents [B,C,…,H,W]; packed ones have no height."""
    if len(shape) < 4:
        return shape[0], 1, 1
    return shape[0] * frames_of(tuple(shape)), shape[-2], shape[-1]
