"""KSampler with a seed for each image: image n is the one that KSampler makes with its seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.sample
import comfy.utils
import latent_preview
import torch

from .latents import batch_indices

MOST = 2**64 - 1


def seeds_from(seed: int, count: int) -> tuple[int, ...]:
    """``seed``, ``seed + 1``, …; after the highest seed follows 0."""
    return tuple((seed + place) & MOST for place in range(count))


def repeated(latent: dict[str, Any], count: int) -> dict[str, Any]:
    """A LATENT with ``count`` images: a single one is repeated.

    Raises:
        ValueError: it has another number of images, or holds video with audio.
    """
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        raise ValueError("Drafts of video with audio are not supported: connect a LATENT of images or video.")
    if len(samples) not in (1, count):
        raise ValueError(
            f"The latent has {len(samples)} images, but {count} drafts are asked for: connect a LATENT with 1 image, "
            f"or one with {count}, or set drafts to {len(samples)}."
        )
    if len(samples) == count:
        return latent
    out = {**latent, "samples": samples.repeat(count, *[1] * (samples.ndim - 1))}
    if (indices := batch_indices(latent)) is not None:  # a noise index for each, as in ComfyUI's Repeat Latent Batch
        out["batch_index"] = [indices[0] + place for place in range(count)]
    return out


def conditioning_of(place: int | None, *each: Any) -> list[Any]:
    """CONDITIONING for one image of a batch: ComfyUI gives each image its own row, in turn; None is the whole batch."""
    if place is None:
        return list(each)
    controls: dict[int, Any] = {}  # ComfyUI computes prompts together if they share a ControlNet
    return [
        [
            [_row("", tensor, place), {name: _option(name, value, place, controls) for name, value in options.items()}]
            for tensor, options in conditioning
        ]
        for conditioning in each
    ]


def _option(name: str, value: Any, place: int, controls: dict[int, Any]) -> Any:
    if name == "control":
        return controls.setdefault(id(value), _control_row(value, place))
    if isinstance(value, list) and all(isinstance(one, torch.Tensor) for one in value):
        return [_row("", one, place) for one in value]  # such as reference latents
    return _row(name, value, place)


def _row(name: str, value: Any, place: int) -> Any:
    batch = isinstance(value, torch.Tensor) and value.ndim > 0 and not (name == "mask" and value.ndim == 2)
    return value[place % len(value)][None] if batch and len(value) > 1 else value


def _control_row(control: Any, place: int) -> Any:
    """A ControlNet with the hint of one image, and so those before it; itself if it has no hint for each."""
    hint = _row("", getattr(control, "cond_hint_original", None), place)
    more = getattr(control, "extra_concat_orig", [])
    masks = [_row("", one, place) for one in more]
    before = getattr(control, "previous_controlnet", None)
    earlier = None if before is None else _control_row(before, place)
    if hint is getattr(control, "cond_hint_original", None) and earlier is before and _all_same(masks, more):
        return control
    own = control.copy()
    own.cond_hint_original, own.extra_concat_orig, own.previous_controlnet = hint, masks, earlier
    return own


def _all_same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return all(one is other for one, other in zip(some, others, strict=True))


def sample_seeds(
    model: Any,
    seeds: Sequence[int],
    latent: dict[str, Any],
    positive: Any,
    negative: Any,
    *,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    denoise: float,
    callback: Any = None,
) -> dict[str, Any]:
    """Samples as ComfyUI's ``common_ksampler`` does, with noise from one seed for each image of the latent."""
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    noise = torch.cat([comfy.sample.prepare_noise(row, seed) for row, seed in zip(start.split(1), seeds, strict=True)])
    samples = comfy.sample.sample(
        model, noise, steps, cfg, sampler_name, scheduler, positive, negative, start, denoise=denoise,
        noise_mask=latent.get("noise_mask"), callback=callback or latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=seeds[0],
    )  # fmt: skip
    return {**latent, "samples": samples}
