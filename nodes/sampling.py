"""ASCED_KSampler, ASCED_ApplyToModel and ASCED_CollectRun: the corrected sampling."""

from __future__ import annotations

import importlib
from typing import Any

import comfy.samplers
import torch
from comfy_api.latest import io

from ..asced_core import CorrectionSettings, DetectionSettings, Report
from . import types
from .host import patch_model
from .run_log import RunLog
from .settings import DEFAULT_CORRECTION, DEFAULT_DETECTION

CATEGORY = "ASCED"


def _settings_inputs() -> list[Any]:
    return [
        types.Detection.Input(
            "detection", optional=True, tooltip="From ASCED Detection; without it the defaults are used."
        ),
        types.Correction.Input(
            "correction", optional=True, tooltip="From ASCED Correction; without it the defaults are used."
        ),
    ]


def _mask_of(report: Report) -> torch.Tensor:
    return torch.from_numpy(report.image_masks())


def check_latent(latent: dict[str, Any]) -> None:
    """Raises one clear sentence where there is nothing to sample."""
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if samples is None or samples.numel() == 0:
        shape = None if samples is None else tuple(samples.shape)
        raise ValueError(
            f"The latent is empty (shape {shape}): connect an Empty Latent Image with batch size 1 or more."
        )


def check_conditioning(name: str, conditioning: Any) -> None:
    """Raises one clear sentence where there is no conditioning; the host would sample grey."""
    if not conditioning:
        raise ValueError(
            f"The {name} conditioning is empty: connect a CLIP Text Encode node or the demo model's output."
        )


class ASCED_KSampler(io.ComfyNode):
    """KSampler that watches and corrects: most people need only this."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_KSampler",
            display_name="ASCED KSampler",
            category=CATEGORY,
            description="KSampler that finds artifacts while they form and corrects them on the spot. "
            "Where it finds none, the image is the same as KSampler's, bit by bit.",
            inputs=[
                io.Model.Input("model", tooltip="The model that denoises."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The seed of the noise, and of the correction's.",
                ),
                io.Int.Input("steps", default=25, min=1, max=10000, tooltip="Sampling steps; 10 or more, better 20."),
                io.Float.Input(
                    "cfg",
                    default=8.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance scale, as in KSampler.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=list(comfy.samplers.KSampler.SAMPLERS),
                    tooltip="Corrected are all but dpm_fast and dpm_adaptive, which choose their steps themselves and "
                    "are not watched, and sa_solver_pece, which is watched only.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(comfy.samplers.KSampler.SCHEDULERS),
                    tooltip="How the noise is removed over the steps.",
                ),
                io.Conditioning.Input("positive", tooltip="What the image should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show."),
                io.Latent.Input("latent_image", tooltip="The latent to denoise."),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below about 0.8 the run starts inside or behind the detection window; the node says so.",
                ),
                *_settings_inputs(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The denoised and corrected latent."),
                types.mask_output(),
                types.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        denoise: float,
        detection: DetectionSettings = DEFAULT_DETECTION,
        correction: CorrectionSettings = DEFAULT_CORRECTION,
    ) -> io.NodeOutput:
        check_latent(latent_image)
        check_conditioning("positive", positive)
        check_conditioning("negative", negative)
        reports: list[Report] = []
        items = latent_image.get("batch_index") or list(range(len(latent_image["samples"])))
        patched = patch_model(model, detection, correction, lambda _, report: reports.append(report), items)
        # The host's own function behind KSampler: what it learns, this node learns. By name, because `nodes` would
        # read as a folder of this pack.
        sample = importlib.import_module("nodes").common_ksampler
        (latent,) = sample(
            patched, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise=denoise
        )
        if not reports:
            raise ValueError(
                "This model's sampling cannot be watched: the host ran no sampler (denoise 0 or no steps); "
                "use KSampler for it."
            )
        types.tell(cls.hidden.unique_id, reports[-1].summary())
        return io.NodeOutput(latent, _mask_of(reports[-1]), reports[-1])


class ASCED_ApplyToModel(io.ComfyNode):
    """Patches a model for any sampler node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_ApplyToModel",
            display_name="ASCED Apply to Model",
            category=CATEGORY,
            description="Watches and corrects the sampling of any sampler node that uses this MODEL. "
            "Applied twice, the last one counts.",
            inputs=[io.Model.Input("model", tooltip="The model to patch."), *_settings_inputs()],
            outputs=[
                io.Model.Output("patched_model", display_name="MODEL", tooltip="For any sampler node."),
                types.Run.Output("run", display_name="RUN", tooltip="For ASCED Collect Run, behind the sampler."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        detection: DetectionSettings = DEFAULT_DETECTION,
        correction: CorrectionSettings = DEFAULT_CORRECTION,
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
            category=CATEGORY,
            description="Gives the mask and the report of the sampling that made this LATENT.",
            inputs=[
                io.Latent.Input("samples", tooltip="Straight from the sampler that used the patched MODEL."),
                types.Run.Input("run", tooltip="From the ASCED Apply to Model that patched it."),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The same latent, unchanged."),
                types.mask_output(),
                types.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, samples: dict[str, Any], run: RunLog) -> io.NodeOutput:
        check_latent(samples)
        report = run.get(samples["samples"])
        types.tell(cls.hidden.unique_id, report.summary())
        return io.NodeOutput(samples, _mask_of(report), report)


NODES = [ASCED_KSampler, ASCED_ApplyToModel, ASCED_CollectRun]
