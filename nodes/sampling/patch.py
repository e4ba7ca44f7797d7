"""A model or guider of ComfyUI whose sampling runs are watched and corrected."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from ...asced_core import Report
from ...asced_core.maps import frames_of
from ...asced_core.report.facts import RunFacts
from ...asced_core.report.report import empty_report
from .options import CorrectionChoice, DetectionChoice
from .plan import image_size
from .run import Run, mask_size

KEY = "ASCED"


def patch_model(
    model: Any,
    detection: DetectionChoice,
    correction: CorrectionChoice,
    on_run: Callable[[torch.Tensor, Report, torch.Tensor | None], None],
    items: Sequence[int] | None = None,
) -> Any:
    """A clone of a ModelPatcher whose sampling runs are watched and corrected.

    A model that was patched before is patched anew: the last settings count, no run is watched twice.

    Args:
        model: the host's ModelPatcher.
        detection, correction: settings, and what goes with them.
        on_run: takes the final latent and the report of each run, and the latent of the run without correction, where
            it was kept and anything was corrected.
        items: index of each image of the batch, see Trajectory.
    """

    # Nothing of a run may live in this closure: clones and cached nodes share it.
    def watch(executor: Any, guider: Any, sigmas: torch.Tensor, extra_args: dict[str, Any], callback: Any,
              noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # fmt: skip
        seed = int(extra_args.get("seed") or 0)
        run = Run(guider, executor.class_obj, sigmas, noise, seed, detection, correction, items)
        with run.attached():
            samples = executor(guider, sigmas, extra_args, run.live.painted(callback), noise, *args, **kwargs)
        original = None
        if run.original is not None:
            # as the host ends a sampler's function
            scaled = guider.inner_model.model_sampling.inverse_noise_scaling(sigmas[-1], run.original)
            original = _finished(guider, scaled)
        on_run(_finished(guider, samples), run.report(), original)
        return samples

    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, watch)
    return patched


def patch_guider(guider: Any, *args: Any) -> Any:
    """A copy of a guider whose sampling runs are watched and corrected; further arguments as for patch_model."""
    patched = copy.copy(guider)
    patched.model_patcher = patch_model(guider.model_patcher, *args)
    patched.model_options = patched.model_patcher.model_options
    return patched


def _finished(guider: Any, samples: torch.Tensor) -> torch.Tensor:
    """The latent that the host makes of a sampler's result."""
    latent: torch.Tensor = guider.inner_model.process_latent_out(samples.to(torch.float32))
    return latent


class OneRun:
    """Takes the report of the one run that a node makes."""

    def __init__(self) -> None:
        self._report: Report | None = None
        self._original: torch.Tensor | None = None

    def __call__(self, _: torch.Tensor, report: Report, original: torch.Tensor | None) -> None:
        self._report, self._original = report, original

    def original_of(self, latent: dict[str, Any]) -> dict[str, Any]:
        """The latent as it is without a correction; the given one where nothing else was kept."""
        return with_samples(latent, self._original)

    def report_of(
        self, latent: dict[str, Any], model: Any, detection: DetectionChoice, correction: CorrectionChoice
    ) -> Report:
        """The report; one that says so where the host had nothing to sample and gave the latent back."""
        if self._report is not None:
            return self._report
        reason = "Not watched: there was no step to sample (denoise 0, or the start behind the end)."
        shape = tuple(latent["samples"].shape)
        facts = RunFacts(image_size=image_size(model, shape), frames=frames_of(shape))
        return empty_report(mask_size(shape), (), detection.settings, correction.settings, facts, (reason,))


def with_samples(latent: dict[str, Any], samples: torch.Tensor | None) -> dict[str, Any]:
    """The LATENT with other samples, of the same type and at the same place; the given one for None."""
    return latent if samples is None else {**latent, "samples": samples.to(latent["samples"])}
