"""Trajectory-aware targeted correction (TTC): re-noise the artifact regions and nothing else (Sec. 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..noise import NoiseLevel, predicted_noise, renoise
from ..settings import CorrectionSettings

PARTS = 16  # of an image's starting noise, each of which contributes the place of its largest value


def item_generator(seed: int, item: int) -> torch.Generator:
    """The CPU generator of one image: its noise depends only on the run's seed and the image's own number (>= 0)."""
    state = np.random.SeedSequence((seed & 0xFFFFFFFFFFFFFFFF, item)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def noise_keys(noise: Tensor, latent: Tensor | None = None) -> list[int]:
    """A number for each image that comes from its own starting noise, whatever batch or tile it is sampled in.

    It is made of the places of the largest values, so that rounding and other dtypes do not change it.

    Args:
        noise: starting noise of the run [B,C,…,H,W].
        latent: starting latents, same shape; they are used for images without noise.
    """
    flat = noise.reshape(len(noise), -1)
    if latent is not None and latent.shape == noise.shape:
        flat = torch.where(flat.any(1, keepdim=True), flat, latent.to(noise.device).reshape(len(noise), -1))
    parts = min(PARTS, flat.shape[1])
    length = flat.shape[1] // parts
    places = flat[:, : parts * length].reshape(len(noise), parts, length).argmax(2).tolist()
    return [sum(place * length**n for n, place in enumerate(own)) for own in places]


def item_noise(x: Tensor, draw: Sequence[torch.Generator | None]) -> Tensor:
    """Standard normal noise with the shape of ``x`` [B,C,H,W], each image from its own generator; None gives zeros.

    It is drawn in float32 on the CPU, so every device gets the same values.
    """
    noise = torch.zeros(x.shape, dtype=torch.float32)
    for target, generator in zip(noise, draw, strict=True):
        if generator is not None:
            target.copy_(torch.randn(target.shape, generator=generator))
    return noise.to(x.device)


def apply_ttc(
    x: Tensor,
    clean: Tensor,
    mask: Tensor,
    level: NoiseLevel,
    settings: CorrectionSettings,
    noise: Tensor,
    perturbation: Tensor | None = None,
) -> Tensor:
    """The corrected state: ``where(mask, alpha (clean + gamma xi) + sigma eps, x)``.

    A strength s below 1 keeps part of the old noise: ``sqrt(1 - s^2) n + s eps``, which is still standard normal.

    Args:
        x: state [B,C,H,W] at T_c.
        clean: predicted clean image [B,C,H,W].
        mask: bool [B,H,W].
        level: noise level of ``x``.
        settings: provide gamma and strength.
        noise: eps, standard normal [B,C,H,W].
        perturbation: xi, standard normal [B,C,H,W]; required if gamma is above 0.
    """
    if settings.strength < 1:
        kept = predicted_noise(x.float(), clean.float(), level)
        noise = math.sqrt(1 - settings.strength**2) * kept + settings.strength * noise
    return renoise(
        x,
        clean,
        mask,
        alpha=level.alpha,
        sigma=level.sigma,
        noise=noise,
        perturbation=perturbation,
        gamma=settings.gamma,
    )
