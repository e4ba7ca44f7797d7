"""Trajectory-aware targeted correction (TTC): re-noise the artifact regions, leave the rest alone (Sec. 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..noise import NoiseLevel, predicted_noise, renoise
from ..settings import CorrectionSettings


def item_generator(seed: int, item: int) -> torch.Generator:
    """A CPU generator of one image's own: its noise depends on the run's seed and the image's index alone."""
    state = np.random.SeedSequence((seed & 0xFFFFFFFFFFFFFFFF, item)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def item_noise(x: Tensor, draw: Sequence[torch.Generator | None]) -> Tensor:
    """Standard normal noise shaped as ``x`` [B,C,H,W], each image from its own generator; None gives zeros.

    Drawn in float32 on the CPU, so that every device gets the same numbers.
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

    With a strength s below 1 the noise keeps a part of the old one, ``sqrt(1 - s^2) n + s eps``, which stays
    standard normal.

    Args:
        x: state [B,C,H,W] at T_c.
        clean: predicted clean image [B,C,H,W].
        mask: bool [B,H,W].
        level: noise level of ``x``.
        settings: gamma and strength.
        noise: eps, standard normal [B,C,H,W].
        perturbation: xi, standard normal [B,C,H,W], needed where gamma is not 0.
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
