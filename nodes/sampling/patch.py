"""Patches ComfyUI's models and guiders so that their sampling runs are watched and corrected."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from ...asced_core import Report
from ...asced_core.correct import noise_keys
from ...asced_core.report.selection import part_of
from ..page.status import log
from .latents import rows_of
from .options import CorrectionOptions, DetectionOptions, DraftOptions
from .plan import make_plan, picture_shape
from .run import NOT_PICKED, Run, run_facts, unwatched
from .sampler_function import SamplerFunction
from .spaces import UnwatchableError

KEY = "ASCED"


def patch_model(
    model: Any,
    detection: DetectionOptions,
    correction: CorrectionOptions,
    on_run: Callable[[torch.Tensor, Report, torch.Tensor | None], None],
    drafts: DraftOptions | None = None,
) -> Any:
    """A clone of a ModelPatcher whose sampling runs are watched and corrected.

    A model that is already patched gets a new patch instead: the last settings count, no run is watched twice.

    Args:
        model: ComfyUI's ModelPatcher.
        detection, correction: settings, and what goes with them.
        on_run: takes the final latent and the report of each run, and its uncorrected latent if that was kept and
            anything was corrected, else None.
        drafts: finishes only the best images of a batch; the latent and the report hold all of them, the others
            unfinished. None finishes all.
    """

    # No state of a run may live in this closure: clones and cached nodes share it.
    def watch(executor: Any, guider: Any, sigmas: torch.Tensor, extra_args: dict[str, Any], callback: Any,
              noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # fmt: skip
        seed, shape = int(extra_args.get("seed") or 0), tuple(noise.shape)
        sampler, patcher = executor.class_obj, guider.model_patcher
        function = SamplerFunction(sampler, sigmas)
        try:
            items = noise_keys(noise, args[0] if args else None)
            plan = make_plan(guider, function, shape, seed, detection, correction, items, drafts)
            run = Run(plan, guider, sampler, noise, correction.keep_original)
        except UnwatchableError as reason:
            note = f"Not watched: {reason}."
            log.warning("%s", note)  # ASCED Apply to Model runs before this and cannot show it
            samples = executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
            facts = run_facts(patcher, shape, sampler=function.name, seed=seed)
            known = picture_shape(patcher, shape)
            settings = detection.settings, correction.settings
            notes = (note,) if drafts is None else (note, NOT_PICKED)
            on_run(_finished(guider, samples), unwatched(known, function.sigmas, *settings, facts, notes), None)
            return samples
        # the graph's sampler is left alone: a copy of it takes its place from here on
        watched = executor.new_class_executor(run.sampler.sample, run.sampler, executor.wrappers, executor.idx)
        samples = watched(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
        original = None
        if run.original is not None:
            # as ComfyUI does after a sampler's function
            scaled = guider.inner_model.model_sampling.inverse_noise_scaling(sigmas[-1], run.original)
            original = _finished(guider, scaled)
        on_run(_finished(guider, samples), run.report(), original)
        return samples

    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, watch)
    return patched


def unpatched(model: Any) -> Any:
    """A clone of a ModelPatcher whose runs are not watched."""
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    return clone


def patch_guider(guider: Any, *args: Any) -> Any:
    """A copy of a guider whose sampling runs are watched and corrected; further arguments as for patch_model.

    A guider that stands in for another one is returned as it is: an attribute that is set on a copy of it may end up
    on the one behind it, which belongs to the graph.
    """
    own = getattr(guider, "__dict__", {})
    if "model_patcher" not in own or type(guider).__setattr__ is not object.__setattr__:
        return guider
    try:
        patched = copy.copy(guider)
    except Exception:  # such as the endless recursion of a plain __getattr__
        return guider
    # its model_options stay: ComfyUI adds the wrappers of the model to them, and a guider may have options of its own
    patched.model_patcher = patch_model(guider.model_patcher, *args)
    return patched


def _finished(guider: Any, samples: torch.Tensor) -> torch.Tensor:
    """The latent that ComfyUI makes from a sampler's result."""
    latent: torch.Tensor = guider.inner_model.process_latent_out(samples.to(torch.float32))
    return latent


class OneRun:
    """Receives the report of the one run that a node makes, and picks the images that it finished."""

    def __init__(self) -> None:
        self._report: Report | None = None
        self._original: torch.Tensor | None = None

    def __call__(self, _: torch.Tensor, report: Report, original: torch.Tensor | None) -> None:
        self._report, self._original = report, original

    def finished(self, latent: dict[str, Any]) -> dict[str, Any]:
        """The finished images of a LATENT: those of the picked drafts, or all of them."""
        drafts = None if self._report is None else self._report.drafts
        return latent if drafts is None or drafts.all_kept else rows_of(latent, drafts.kept)

    def original_of(self, latent: dict[str, Any]) -> dict[str, Any]:
        """The uncorrected latent of the finished images; the given one if no other was kept."""
        return self.finished(with_samples(latent, self._original))

    def report_of(
        self,
        latent: dict[str, Any],
        model: Any,
        detection: DetectionOptions,
        correction: CorrectionOptions,
        idle: bool,
    ) -> Report:
        """The report of the run, also if there was none.

        Args:
            latent: what was sampled.
            model: ComfyUI's ModelPatcher.
            detection, correction: as requested.
            idle: True if ComfyUI had nothing to sample, and returned the latent as it was.
        """
        if self._report is not None:
            drafts = self._report.drafts
            return self._report if drafts is None or drafts.all_kept else part_of(self._report, drafts.kept)
        reason = (
            "Not watched: there was no step to sample (denoise 0, or a start step at or after the end step)."
            if idle
            else "Not watched: the sampling did not use the MODEL that ASCED patched, because a guider or another node "
            "samples with one of its own; connect ASCED Apply to Model in front of that."
        )
        shape = picture_shape(model, latent["samples"].shape)
        return unwatched(shape, (), detection.settings, correction.settings, run_facts(model, shape), (reason,))


def with_samples(latent: dict[str, Any], samples: torch.Tensor | None) -> dict[str, Any]:
    """The LATENT with other samples, of the same dtype and device; the given one for None."""
    return latent if samples is None else {**latent, "samples": samples.to(latent["samples"])}
