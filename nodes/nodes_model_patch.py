"""ASCED_ApplyToModel and ASCED_CollectRun: correction in any sampler node, through a patched model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import sockets
from .images import found_in
from .inputs import check_latent, sensitivity_input, settings_inputs
from .page import status
from .presets import FEW, sensitive
from .sampling.options import DEFAULT_CORRECTION, CorrectionOptions, DetectionOptions
from .sampling.patch import patch_model, with_samples
from .sampling.run_log import RunLog


class ASCED_ApplyToModel(io.ComfyNode):
    """Patches a model for any sampler node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_ApplyToModel",
            display_name="ASCED Apply to Model",
            category=sockets.SAMPLING,
            description="Patches a MODEL so that any sampler node that uses it finds and corrects artifacts. "
            "If applied twice, the last one counts.",
            **sockets.found_by(*sockets.FAULTS, "model patch"),
            inputs=[io.Model.Input("model", tooltip="The model to patch."), *settings_inputs(), sensitivity_input()],
            outputs=[
                io.Model.Output(
                    "patched_model", display_name="MODEL", tooltip="The patched model, for any sampler node."
                ),
                sockets.Run.Output(
                    "run", display_name="RUN", tooltip="For ASCED Collect Run after the sampler, or ASCED Stitch Runs."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        detection: DetectionOptions | None = None,
        correction: CorrectionOptions = DEFAULT_CORRECTION,
        sensitivity: str = FEW,
    ) -> io.NodeOutput:
        runs = RunLog()
        return io.NodeOutput(patch_model(model, sensitive(detection, sensitivity), correction, runs.put), runs)


class ASCED_CollectRun(io.ComfyNode):
    """Mask and report of a run with a patched model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_CollectRun",
            display_name="ASCED Collect Run",
            category=sockets.SAMPLING,
            description="Outputs the mask and the report of the sampling run that made this LATENT.",
            **sockets.found_by("artifact mask", "artifact report"),
            inputs=[
                io.Latent.Input("samples", tooltip="LATENT directly from the sampler that used the patched MODEL."),
                sockets.Run.Input("run", tooltip="RUN from the ASCED Apply to Model node that patched this MODEL."),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The same latent, unchanged."),
                *sockets.run_outputs(),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], run: RunLog) -> io.NodeOutput:
        check_latent(samples)
        report, original = run.get(samples["samples"])
        return status.told(cls, report.summary(), samples, *found_in(report), with_samples(samples, original))


NODES = [ASCED_ApplyToModel, ASCED_CollectRun]
