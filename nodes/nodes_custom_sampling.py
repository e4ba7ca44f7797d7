"""ASCED_SamplerCustomAdvanced: ComfyUI's own node, watched and corrected."""

from __future__ import annotations

import importlib
from typing import Any

from comfy_api.latest import io

from . import sockets
from .images import found_in
from .inputs import check_latent, drafts_input, sensitivity_input, settings_inputs
from .page import status
from .presets import FEW, sensitive
from .sampling.options import DEFAULT_CORRECTION, CorrectionOptions, DetectionOptions, DraftOptions
from .sampling.patch import OneRun, patch_guider


class ASCED_SamplerCustomAdvanced(io.ComfyNode):
    """SamplerCustomAdvanced with detection and correction, for any guider, sampler and noise levels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_SamplerCustomAdvanced",
            display_name="ASCED SamplerCustomAdvanced",
            category=sockets.SAMPLING,
            description="SamplerCustomAdvanced that finds artifacts as they form and corrects them during sampling. "
            "For Flux and other models that use a guider.",
            **sockets.found_by(*sockets.FAULTS, "flux"),
            inputs=[
                io.Noise.Input("noise", tooltip="From RandomNoise or another noise node."),
                io.Guider.Input("guider", tooltip="From BasicGuider, CFGGuider or another guider node."),
                io.Sampler.Input("sampler", tooltip="From KSamplerSelect or another sampler node."),
                io.Sigmas.Input(
                    "sigmas", tooltip="From BasicScheduler or another scheduler node. Use at least 10 steps."
                ),
                io.Latent.Input("latent_image", tooltip="The latent to denoise."),
                *settings_inputs(),
                drafts_input(),
                sensitivity_input(),
            ],
            outputs=[
                io.Latent.Output("output", display_name="output", tooltip="The sampled and corrected latent."),
                io.Latent.Output(
                    "denoised_output", display_name="denoised_output", tooltip="The last predicted clean latent."
                ),
                *sockets.run_outputs(),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls,
        noise: Any,
        guider: Any,
        sampler: Any,
        sigmas: Any,
        latent_image: dict[str, Any],
        detection: DetectionOptions | None = None,
        correction: CorrectionOptions = DEFAULT_CORRECTION,
        drafts: DraftOptions | None = None,
        sensitivity: str = FEW,
    ) -> io.NodeOutput:
        check_latent(latent_image)
        run, detection = OneRun(), sensitive(detection, sensitivity)
        watched = patch_guider(guider, detection, correction, run, drafts)
        # from ComfyUI's node list: the node lives in comfy_extras, which is not imported here
        node = importlib.import_module("nodes").NODE_CLASS_MAPPINGS["SamplerCustomAdvanced"]
        done = getattr(node(), node.FUNCTION)(
            noise=noise, guider=watched, sampler=sampler, sigmas=sigmas, latent_image=latent_image
        )
        output, denoised = getattr(done, "args", done)  # a plain pair in older ComfyUI versions
        report = run.report_of(output, guider.model_patcher, detection, correction, idle=not sigmas.numel())
        latents = run.finished(output), run.finished(denoised)
        return status.told(cls, report.summary(), *latents, *found_in(report), run.original_of(output))


NODES = [ASCED_SamplerCustomAdvanced]
