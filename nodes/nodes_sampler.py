"""ASCED_KSampler and ASCED_KSamplerAdvanced: ComfyUI's own nodes, watched and corrected."""

from __future__ import annotations

import importlib
from typing import Any

from comfy_api.latest import io

from . import sockets
from .images import found_in
from .inputs import (
    check_conditioning,
    check_latent,
    drafts_input,
    sampling_inputs,
    seed_input,
    sensitivity_input,
    settings_inputs,
)
from .page import status
from .presets import FEW, sensitive
from .sampling.options import DEFAULT_CORRECTION, CorrectionOptions, DetectionOptions, DraftOptions
from .sampling.patch import OneRun, patch_model


class ASCED_KSampler(io.ComfyNode):
    """KSampler with detection and correction: the only node that most people need."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_KSampler",
            display_name="ASCED KSampler (fixes artifacts)",
            category=sockets.SAMPLING,
            description="KSampler that finds artifacts as they form and corrects them during sampling. "
            "If none is found, the image is bit-for-bit identical to KSampler's.",
            **sockets.found_by(*sockets.FAULTS),
            inputs=[
                io.Model.Input("model", tooltip="The model used for denoising."),
                seed_input("seed"),
                *sampling_inputs(),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 0.8, the run is watched from its start, and a correction this late fixes less.",
                ),
                *settings_inputs(),
                drafts_input(),
                sensitivity_input(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The denoised and corrected latent."),
                *sockets.run_outputs(),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls,
        seed: int,
        detection: DetectionOptions | None = None,
        correction: CorrectionOptions = DEFAULT_CORRECTION,
        drafts: DraftOptions | None = None,
        sensitivity: str = FEW,
        **widgets: Any,
    ) -> io.NodeOutput:
        return _sample(cls, sensitive(detection, sensitivity), correction, drafts, seed=seed, **widgets)


class ASCED_KSamplerAdvanced(io.ComfyNode):
    """KSampler (Advanced) with detection and correction: part of a run, with noise coming in or left over."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_KSamplerAdvanced",
            display_name="ASCED KSampler (Advanced)",
            category=sockets.SAMPLING,
            description="KSampler (Advanced) that finds artifacts as they form and corrects them during sampling. "
            "If a run is split between two samplers, the one that samples its middle makes the correction.",
            **sockets.found_by(*sockets.FAULTS),
            inputs=[
                io.Model.Input("model", tooltip="The model used for denoising."),
                io.Combo.Input(
                    "add_noise",
                    options=["enable", "disable"],
                    tooltip="disable: the latent already contains the noise.",
                ),
                seed_input("noise_seed"),
                *sampling_inputs(),
                io.Int.Input(
                    "start_at_step", default=0, min=0, max=10000, tooltip="First step of the schedule to run."
                ),
                io.Int.Input(
                    "end_at_step",
                    default=10000,
                    min=0,
                    max=10000,
                    tooltip="The run stops before this step. It should include the steps from a fifth to half of the "
                    "schedule.",
                ),
                io.Combo.Input(
                    "return_with_leftover_noise",
                    options=["disable", "enable"],
                    tooltip="enable: leaves the remaining noise in the latent, so that another sampler can continue.",
                ),
                *settings_inputs(),
                drafts_input(),
                sensitivity_input(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The denoised and corrected latent."),
                *sockets.run_outputs(),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls,
        noise_seed: int,
        add_noise: str,
        start_at_step: int,
        end_at_step: int,
        return_with_leftover_noise: str,
        detection: DetectionOptions | None = None,
        correction: CorrectionOptions = DEFAULT_CORRECTION,
        drafts: DraftOptions | None = None,
        sensitivity: str = FEW,
        **widgets: Any,
    ) -> io.NodeOutput:
        return _sample(
            cls,
            sensitive(detection, sensitivity),
            correction,
            drafts,
            seed=noise_seed,
            disable_noise=add_noise == "disable",
            start_step=start_at_step,
            last_step=end_at_step,
            force_full_denoise=return_with_leftover_noise == "disable",
            **widgets,
        )


def _sample(
    cls: type[io.ComfyNode],
    detection: DetectionOptions,
    correction: CorrectionOptions,
    drafts: DraftOptions | None,
    *,
    model: Any,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent_image: dict[str, Any],
    **options: Any,
) -> io.NodeOutput:
    """Calls the function behind ComfyUI's own KSampler nodes, so that its updates apply here as well."""
    check_latent(latent_image)
    check_conditioning(positive, negative, cfg)
    run = OneRun()
    patched = patch_model(model, detection, correction, run, drafts)
    # by name, because `nodes` would be taken for this pack's folder
    sample = importlib.import_module("nodes").common_ksampler
    (latent,) = sample(patched, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, **options)
    idle = options.get("denoise", 1.0) <= 0 or options.get("start_step", 0) >= min(
        options.get("last_step", steps), steps
    )
    report = run.report_of(latent, model, detection, correction, idle)
    return status.told(cls, report.summary(), run.finished(latent), *found_in(report), run.original_of(latent))


NODES = [ASCED_KSampler, ASCED_KSamplerAdvanced]
