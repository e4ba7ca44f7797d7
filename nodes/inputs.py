"""Inputs that several nodes share, and the checks on them."""

from __future__ import annotations

import math
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from . import sockets
from .presets import FEW, SENSITIVITIES


def settings_inputs() -> list[Any]:
    return [
        sockets.Detection.Input(
            "detection", optional=True, tooltip="Settings from ASCED Detection. If not connected, the defaults apply."
        ),
        sockets.Correction.Input(
            "correction", optional=True, tooltip="Settings from ASCED Correction. If not connected, the defaults apply."
        ),
    ]


def sensitivity_input() -> Any:
    return io.Combo.Input(
        "sensitivity",
        optional=True,
        options=list(SENSITIVITIES),
        default=FEW,
        tooltip="How much is marked and corrected. few marks: about one image in three, with our models. more marks: "
        "about two in three. many marks: nearly every image, mostly false alarms; helps weak models. No effect if "
        "detection is connected.",
    )


def drafts_input() -> Any:
    return sockets.Drafts.Input(
        "drafts",
        optional=True,
        tooltip="From ASCED Drafts: finishes only the best images of the batch. If not connected, all are finished.",
    )


def report_input(optional: bool = False) -> Any:
    return sockets.Report.Input(
        "report", optional=optional, tooltip="REPORT from an ASCED sampler, ASCED Collect Run or ASCED Stitch Runs."
    )


def image_input(tooltip: str, optional: bool = False) -> Any:
    return io.Image.Input("image", optional=optional, tooltip=tooltip)


def seed_input(name: str, tooltip: str = "Seed of the initial noise and of the correction's noise.") -> Any:
    """The seed, under its name in the ComfyUI node."""
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip=tooltip,
    )


def cfg_input() -> Any:
    """The CFG scale, as in ComfyUI's KSampler nodes."""
    return io.Float.Input(
        "cfg",
        default=8.0,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="Guidance scale, as in KSampler.",
    )


def schedule_inputs() -> list[Any]:
    """From ``scheduler`` to ``latent_image``, as in ComfyUI's KSampler nodes."""
    return [
        io.Combo.Input(
            "scheduler",
            options=list(comfy.samplers.KSampler.SCHEDULERS),
            tooltip="How the noise is removed over the steps, as in KSampler.",
        ),
        io.Conditioning.Input("positive", tooltip="What the image should show."),
        io.Conditioning.Input("negative", tooltip="What the image should not show."),
        io.Latent.Input("latent_image", tooltip="The latent to denoise."),
    ]


def sampling_inputs() -> list[Any]:
    """From ``steps`` to ``latent_image``, as in ComfyUI's KSampler nodes."""
    return [
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Sampling steps. Use 10 or more, preferably 20."),
        cfg_input(),
        io.Combo.Input(
            "sampler_name",
            options=list(comfy.samplers.KSampler.SAMPLERS),
            tooltip="Every sampler is corrected except dpm_adaptive, which picks its own steps and is not watched.",
        ),
        *schedule_inputs(),
    ]


def check_latent(latent: dict[str, Any]) -> None:
    """Checks that there is something to sample.

    Raises:
        ValueError: the latent is empty.
    """
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if samples is None or 0 in samples.size():
        shape = None if samples is None else tuple(samples.size())
        raise ValueError(
            f"The latent is empty (shape {shape}): connect an Empty Latent Image with a batch size of 1 or more."
        )


def check_conditioning(positive: Any, negative: Any, cfg: float) -> None:
    """Checks that there is conditioning; ComfyUI would sample plain gray without it. At cfg 1, negative is not used.

    Raises:
        ValueError: a conditioning is empty.
    """
    needed = not math.isclose(cfg, 1.0)  # as in ComfyUI
    for name, conditioning, used in (("positive", positive, True), ("negative", negative, needed)):
        if used and not conditioning:
            raise ValueError(
                f"The {name} conditioning is empty: connect a CLIP Text Encode node or the demo model's output."
            )
