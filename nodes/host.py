"""The only file that touches the host's sampling hooks.

A run is watched from inside SAMPLER_SAMPLE: a loop takes the place of the sampler's function for that one
run. At T_c it leaves the function by an exception and calls it again on the remaining noise levels from the
corrected state. Editing the state in place would go wrong in most samplers, which have used it already or
keep a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import comfy.k_diffusion.sampling as k_sampling
import torch
from comfy.patcher_extension import WrappersMP

from ..asced_core import CorrectionSettings, DetectionSettings, NoiseLevel, Report, Trajectory
from ..asced_core.report import RunFacts, build_report, empty_report
from ..asced_core.stopwatch import Stopwatch

KEY = "ASCED"

# Sampler functions that may be left and entered again, with the noise source that has to live on over it.
RESTARTABLE: dict[str, str | None] = {
    "sample_euler": None,  # the host's ddim is this function, too
    "sample_heun": None,
    "sample_dpmpp_2m": None,
    "sample_unipc": None,
    "sample_euler_ancestral": "white",
    "sample_dpmpp_2m_sde": "brownian",
}
MULTISTEP = ("sample_dpmpp_2m", "sample_dpmpp_2m_sde", "sample_unipc")  # remember former predictions
MIN_STEPS = {"sample_unipc": 2}  # the least that the function can be entered with
OFF_SCHEDULE = ("dpm_fast_function", "dpm_adaptive_function")  # choose noise levels of their own


def patch_model(
    model: Any,
    detection: DetectionSettings,
    correction: CorrectionSettings,
    on_report: Callable[[torch.Tensor, Report], None],
    items: Sequence[int] | None = None,
) -> Any:
    """A clone of a ModelPatcher whose sampling runs are watched and corrected.

    A model that was patched before is patched anew: the last settings count, no run is watched twice.

    Args:
        model: the host's ModelPatcher.
        detection, correction: settings.
        on_report: takes the final latent and the report of each run.
        items: index of each image of the batch, see Trajectory.
    """

    # Nothing of a run may live in this closure: clones and cached nodes share it.
    def watch(executor: Any, guider: Any, sigmas: torch.Tensor, extra_args: dict[str, Any], callback: Any,
              noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # fmt: skip
        run = _Run(guider, executor.class_obj, sigmas, noise, int(extra_args.get("seed") or 0))
        with run.attached(detection, correction, items):
            samples = executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
        on_report(guider.inner_model.process_latent_out(samples.to(torch.float32)), run.report(detection, correction))
        return samples

    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, watch)
    return patched


class _Restart(Exception):  # noqa: N818 - a jump, not an error
    def __init__(self, step: int, x: torch.Tensor) -> None:
        super().__init__()
        self.step, self.x = step, x


class _RecordedModel:
    """The sampler's model with its last input and output kept; everything else is the model's own."""

    def __init__(self, model: Any, stopwatch: Stopwatch) -> None:
        self._model, self._stopwatch = model, stopwatch
        self.calls = 0

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self._stopwatch.span("model"):
            denoised = self._model(x, *args, **kwargs)
        self.calls += 1
        self.x, self.denoised = x, denoised
        return denoised

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class _Run:
    """One sampling run, from its start to its report."""

    def __init__(self, guider: Any, sampler: Any, sigmas: torch.Tensor, noise: torch.Tensor, seed: int) -> None:
        self._patcher, self._sampler, self._seed = guider.model_patcher, sampler, seed
        self._sigmas = tuple(sigmas.tolist())
        self._shape = tuple(noise.shape)
        self._stopwatch = Stopwatch(noise.device)
        self._function = getattr(sampler, "sampler_function", None)
        self._name = getattr(self._function, "__name__", type(sampler).__name__)
        self._notes: list[str] = []
        self._trajectory: Trajectory | None = None
        self._calls, self._restarts = 0, 0

    @contextmanager
    def attached(
        self, detection: DetectionSettings, correction: CorrectionSettings, items: Sequence[int] | None
    ) -> Iterator[None]:
        """The sampler's function is ours inside the block, and its own again after it, whatever happens."""
        if reason := self._obstacle():
            self._notes.append(f"Not watched: {reason}.")
            yield
            return
        self._trajectory = self._plan(detection, correction, items)
        self._sampler.sampler_function = self._sample
        try:
            yield
        finally:
            self._sampler.sampler_function = self._function

    def _obstacle(self) -> str:
        if self._function is None:
            return f"the sampler {self._name} brings a loop of its own"
        if self._name in OFF_SCHEDULE:
            return f"{self._name.removesuffix('_function')} chooses its noise levels itself"
        if len(self._shape) != 4:
            return f"latents with {len(self._shape)} dimensions (video, audio or packed) are not supported"
        return ""

    def _plan(
        self, detection: DetectionSettings, correction: CorrectionSettings, items: Sequence[int] | None
    ) -> Trajectory:
        sampling = self._patcher.get_model_object("model_sampling")
        start, end = (float(sampling.percent_to_sigma(p)) for p in (detection.start_percent, detection.end_percent))
        levels = [_level(sampling, sigma) for sigma in self._sigmas]
        to_rgb = _to_rgb(self._patcher.get_model_object("latent_format"))

        def plan(correction: CorrectionSettings) -> Trajectory:
            return Trajectory(detection, correction, self._sigmas, start, end, levels, self._seed, items, to_rgb)

        trajectory = plan(correction)
        if trajectory.window.decision is None or not correction.acts:
            return trajectory
        if self._name not in RESTARTABLE:
            names = ", ".join(sorted(name.removeprefix("sample_") for name in RESTARTABLE))
            why = f"sampler {self._name.removeprefix('sample_')} cannot be corrected; these can: ddim, {names}"
        elif len(self._sigmas) - 1 - trajectory.window.decision < MIN_STEPS.get(self._name, 1):
            why = f"{self._name.removeprefix('sample_')} cannot start anew so near to its end; take more steps"
        else:
            return trajectory
        self._notes.append(f"Only observed: {why}.")
        return plan(replace(correction, method="none"))

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
        recorded, first = _RecordedModel(model, self._stopwatch), 0
        source = RESTARTABLE.get(self._name)
        if source and options.get("noise_sampler") is None:
            options["noise_sampler"] = _noise_sampler(source, x, sigmas, (extra_args or {}).get("seed"))

        def on_step(info: dict[str, Any]) -> None:
            step = first + info["i"]
            corrected = self._watch(step, recorded)
            if corrected is not None:
                raise _Restart(step, corrected)
            if callback is not None:
                callback({**info, "i": step})

        try:
            while True:
                try:
                    return self._function(  # type: ignore[misc]
                        recorded, x, sigmas, extra_args=extra_args, callback=on_step, disable=disable, **options
                    )
                except _Restart as jump:
                    # a clone: uni_pc writes into its noise levels
                    x, sigmas, first = jump.x, sigmas[jump.step - first :].clone(), jump.step
                    self._restarts += 1
        finally:
            self._calls = recorded.calls

    def _watch(self, step: int, recorded: _RecordedModel) -> torch.Tensor | None:
        """Shows the step to the trajectory; the corrected state where there is one."""
        trajectory = self._trajectory
        if trajectory is None or step >= len(self._sigmas) - 1:
            return None
        with self._stopwatch.span("asced"):
            trajectory.observe(step, recorded.x, recorded.denoised)
            if trajectory.is_due(step) and trajectory.decide():
                return trajectory.correct(recorded.x, recorded.denoised)
        return None

    def report(self, detection: DetectionSettings, correction: CorrectionSettings) -> Report:
        """What was found; call it when the run has ended."""
        latent_format = self._patcher.get_model_object("latent_format")
        facts = RunFacts(
            sampler=self._name.removeprefix("sample_"),
            seed=self._seed,
            model_calls=self._calls,
            extra_model_calls=self._restarts,
            seconds_model=self._stopwatch.seconds("model"),
            seconds_asced=self._stopwatch.seconds("asced"),
            pixels_per_cell=int(getattr(latent_format, "spacial_downscale_ratio", 8)),
        )
        if self._restarts and self._name in MULTISTEP and not all(self._trajectory.corrected):  # type: ignore[union-attr]
            self._notes.append(
                f"{facts.sampler} keeps a memory of former steps, which a correction starts anew for the whole batch: "
                "images without an artifact differ a little from KSampler's."
            )
        notes = tuple(self._notes)
        if self._trajectory is not None and self._trajectory.detections:
            return build_report(self._trajectory, facts, notes)
        if self._trajectory is not None:
            notes = self._trajectory.window.notes + notes
        size = (self._shape[0], self._shape[-2], self._shape[-1])
        return empty_report(size, self._sigmas, detection, correction, facts, notes)


def _level(sampling: Any, sigma: float) -> NoiseLevel:
    """Alpha and sigma of a state, asked of the host's own way to make one from an image and noise."""
    at, zero, one = torch.tensor([sigma]), torch.zeros(1, 1), torch.ones(1, 1)
    return NoiseLevel(
        float(sampling.noise_scaling(at, zero.clone(), one)), float(sampling.noise_scaling(at, one.clone(), zero))
    )


def _to_rgb(latent_format: Any) -> torch.Tensor | None:
    """The host's own colours for a preview of this model's latents, [3, C+1]; None where it has none."""
    factors = getattr(latent_format, "latent_rgb_factors", None)
    if factors is None or getattr(latent_format, "latent_rgb_factors_reshape", None) is not None:
        return None
    bias = getattr(latent_format, "latent_rgb_factors_bias", None) or [0.0, 0.0, 0.0]
    return torch.tensor([*factors, bias], dtype=torch.float32).T


def _noise_sampler(source: str, x: torch.Tensor, sigmas: torch.Tensor, seed: int | None) -> Any:
    """The noise source that the sampler would make for itself, made once so that a restart goes on with it."""
    if source == "white":
        return k_sampling.default_noise_sampler(x, seed=seed)
    return k_sampling.BrownianTreeNoiseSampler(x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=True)
