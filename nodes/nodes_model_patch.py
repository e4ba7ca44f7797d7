"""ASCED_ApplyToModel and ASCED_CollectRun: the corrected sampling of any sampler node, by a patched model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import sockets
from .inputs import check_latent, settings_inputs
from .page import status
from .sampling.options import DEFAULT_CORRECTION, DEFAULT_DETECTION, CorrectionOptions, DetectionOptions
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
            description="Watches and corrects the sampling of any sampler node that uses this MODEL. "
            "Applied twice, the last one counts.",
            **sockets.found_by("artifact", "fix hands", "model patch"),
            inputs=[io.Model.Input("model", tooltip="The model to patch."), *settings_inputs()],
            outputs=[
                io.Model.Output("patched_model", display_name="MODEL", tooltip="For any sampler node."),
                sockets.Run.Output("run", display_name="RUN", tooltip="For ASCED Collect Run, behind the sampler."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        detection: DetectionOptions = DEFAULT_DETECTION,
        correction: CorrectionOptions = DEFAULT_CORRECTION,
    ) -> io.NodeOutput:
        runs = RunLog()
        return io.NodeOutput(patch_model(model, detection, correction, runs.put), runs)


class ASCED_CollectRun(io.ComfyNode):
    """Mask and report of a run by a patched model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_CollectRun",
            display_name="ASCED Collect Run",
            category=sockets.SAMPLING,
            description="Gives the mask and the report of the sampling that made this LATENT.",
            **sockets.found_by("artifact mask", "artifact report"),
            inputs=[
                io.Latent.Input("samples", tooltip="Straight from the sampler that used the patched MODEL."),
                sockets.Run.Input("run", tooltip="From the ASCED Apply to Model that patched it."),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The same latent, unchanged."),
                *sockets.run_outputs(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], run: RunLog) -> io.NodeOutput:
        check_latent(samples)
        report, original = run.get(samples["samples"])
        found = status.announce_report(cls.hidden.unique_id, report)
        return io.NodeOutput(samples, *found, with_samples(samples, original))


NODES = [ASCED_ApplyToModel, ASCED_CollectRun]
