"""Inputs that several sampler nodes share, and what is checked about them."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy_api.latest import io

from . import sockets


def settings_inputs() -> list[Any]:
    return [
        sockets.Detection.Input(
            "detection", optional=True, tooltip="From ASCED Detection; without it the defaults are used."
        ),
        sockets.Correction.Input(
            "correction", optional=True, tooltip="From ASCED Correction; without it the defaults are used."
        ),
    ]


def report_input(optional: bool = False) -> Any:
    return sockets.Report.Input("report", optional=optional, tooltip="From an ASCED sampler node or ASCED Collect Run.")


def image_input(tooltip: str, optional: bool = False) -> Any:
    return io.Image.Input("image", optional=optional, tooltip=tooltip)


def seed_input(name: str, tooltip: str = "The seed of the noise, and of the correction's.") -> Any:
    """The seed, under the name that it has in the host's node."""
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip=tooltip,
    )


def cfg_input() -> Any:
    """As in the host's KSampler nodes."""
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
    """From ``scheduler`` to ``latent_image``, as in the host's KSampler nodes."""
    return [
        io.Combo.Input(
            "scheduler",
            options=list(comfy.samplers.KSampler.SCHEDULERS),
            tooltip="How the noise is removed over the steps.",
        ),
        io.Conditioning.Input("positive", tooltip="What the image should show."),
        io.Conditioning.Input("negative", tooltip="What it should not show."),
        io.Latent.Input("latent_image", tooltip="The latent to denoise."),
    ]


def sampling_inputs() -> list[Any]:
    """From ``steps`` to ``latent_image``, as in the host's KSampler nodes."""
    return [
        io.Int.Input("steps", default=25, min=1, max=10000, tooltip="Sampling steps; 10 or more, better 20."),
        cfg_input(),
        io.Combo.Input(
            "sampler_name",
            options=list(comfy.samplers.KSampler.SAMPLERS),
            tooltip="Corrected are all but dpm_adaptive, which chooses its steps on the way and is not watched.",
        ),
        *schedule_inputs(),
    ]


def check_latent(latent: dict[str, Any]) -> None:
    """Raises one clear sentence where there is nothing to sample."""
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if samples is None or 0 in samples.size():
        shape = None if samples is None else tuple(samples.size())
        raise ValueError(
            f"The latent is empty (shape {shape}): connect an Empty Latent Image with batch size 1 or more."
        )


def check_conditioning(name: str, conditioning: Any) -> None:
    """Raises one clear sentence where there is no conditioning; the host would sample grey."""
    if not conditioning:
        raise ValueError(
            f"The {name} conditioning is empty: connect a CLIP Text Encode node or the demo model's output."
        )
