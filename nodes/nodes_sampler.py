"""ASCED_KSampler and ASCED_KSamplerAdvanced: the host's own nodes, watched and corrected."""

from __future__ import annotations

import importlib
from typing import Any

from comfy_api.latest import io

from . import sockets
from .inputs import check_conditioning, check_latent, sampling_inputs, seed_input, settings_inputs
from .page import status
from .sampling.options import DEFAULT_CORRECTION, DEFAULT_DETECTION, CorrectionOptions, DetectionOptions
from .sampling.patch import OneRun, patch_model


class ASCED_KSampler(io.ComfyNode):
    """KSampler that watches and corrects: most people need only this."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_KSampler",
            display_name="ASCED KSampler",
            category=sockets.SAMPLING,
            description="KSampler that finds artifacts while they form and corrects them on the spot. "
            "Where it finds none, the image is the same as KSampler's, bit by bit.",
            **sockets.found_by("artifact", "fix hands", "extra finger", "detailer"),
            inputs=[
                io.Model.Input("model", tooltip="The model that denoises."),
                seed_input("seed"),
                *sampling_inputs(),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 0.8 the run is watched from its start on; corrections so late mend less.",
                ),
                *settings_inputs(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The denoised and corrected latent."),
                *sockets.run_outputs(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        seed: int,
        detection: DetectionOptions = DEFAULT_DETECTION,
        correction: CorrectionOptions = DEFAULT_CORRECTION,
        **widgets: Any,
    ) -> io.NodeOutput:
        return _sample(cls, detection, correction, seed=seed, **widgets)


class ASCED_KSamplerAdvanced(io.ComfyNode):
    """KSampler (Advanced) that watches and corrects: a part of a run, with noise coming in or left over."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_KSamplerAdvanced",
            display_name="ASCED KSampler (Advanced)",
            category=sockets.SAMPLING,
            description="KSampler (Advanced) that finds artifacts while they form and corrects them on the spot. "
            "A run that is split over two samplers is corrected by the one that does its middle.",
            **sockets.found_by("artifact", "fix hands", "extra finger", "detailer"),
            inputs=[
                io.Model.Input("model", tooltip="The model that denoises."),
                io.Combo.Input(
                    "add_noise", options=["enable", "disable"], tooltip="disable: the latent brings its noise along."
                ),
                seed_input("noise_seed"),
                *sampling_inputs(),
                io.Int.Input("start_at_step", default=0, min=0, max=10000, tooltip="First step of the schedule to do."),
                io.Int.Input(
                    "end_at_step",
                    default=10000,
                    min=0,
                    max=10000,
                    tooltip="Step to stop before. The steps from a fifth to the half of the run should be among them.",
                ),
                io.Combo.Input(
                    "return_with_leftover_noise",
                    options=["disable", "enable"],
                    tooltip="enable: the noise that is left stays in, for another sampler to go on.",
                ),
                *settings_inputs(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The denoised and corrected latent."),
                *sockets.run_outputs(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        noise_seed: int,
        add_noise: str,
        start_at_step: int,
        end_at_step: int,
        return_with_leftover_noise: str,
        detection: DetectionOptions = DEFAULT_DETECTION,
        correction: CorrectionOptions = DEFAULT_CORRECTION,
        **widgets: Any,
    ) -> io.NodeOutput:
        return _sample(
            cls,
            detection,
            correction,
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
    """The host's own function behind its KSampler nodes: what it learns, these nodes learn."""
    check_latent(latent_image)
    check_conditioning("positive", positive)
    check_conditioning("negative", negative)
    run = OneRun()
    patched = patch_model(model, detection, correction, run, latent_image.get("batch_index"))
    # by name, because `nodes` would read as a folder of this pack
    sample = importlib.import_module("nodes").common_ksampler
    (latent,) = sample(patched, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, **options)
    found = status.announce_report(cls.hidden.unique_id, run.report_of(latent, model, detection, correction))
    return io.NodeOutput(latent, *found, run.original_of(latent))


NODES = [ASCED_KSampler, ASCED_KSamplerAdvanced]
