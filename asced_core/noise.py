"""Noise levels of any diffusion or flow model, and re-noising.

One relation covers all of them: a state is ``x = alpha * x0 + sigma * n`` with ``n ~ N(0, I)``
(paper Sec. 3.1 for VP; alpha = 1 for EDM, alpha = 1 - sigma for flow).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PREDICTIONS = ("epsilon", "v_prediction", "flow", "sample")  # what a network may predict
Predict = Callable[[Tensor, int], Tensor]  # the model: a state and its step -> predicted clean image, same shape


@dataclass(frozen=True)
class NoiseLevel:
    """One noise level of ``x = alpha * x0 + sigma * n``; alpha and sigma are 0 or more.

    Raises:
        ValueError: alpha or sigma is negative or not finite, or both are zero.
    """

    alpha: float
    sigma: float

    def __post_init__(self) -> None:
        good = all(math.isfinite(v) and v >= 0 for v in (self.alpha, self.sigma))
        if not good or self.alpha == self.sigma == 0:
            raise ValueError(
                "A noise level needs finite alpha and sigma of 0 or more, and not both 0; "
                f"got alpha={self.alpha}, sigma={self.sigma}."
            )

    @property
    def weight(self) -> float:
        """``w(t) = sigma^2 / alpha``, the coefficient of the score in Eq. 5 of the paper; inf if alpha is 0."""
        return self.sigma**2 / self.alpha if self.alpha else math.inf


def vp_level(alpha_bar: float) -> NoiseLevel:
    """Variance preserving (DDPM): ``alpha = sqrt(abar)``, ``sigma = sqrt(1 - abar)``, abar in [0, 1].

    Raises:
        ValueError: abar is outside [0, 1].
    """
    if not 0 <= alpha_bar <= 1:
        raise ValueError(f"The alpha_bar of a noise level must be between 0 and 1, got {alpha_bar}.")
    return NoiseLevel(math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar))


def edm_level(sigma: float) -> NoiseLevel:
    """EDM, and VP states divided by alpha, as the k-diffusion samplers use them: ``alpha = 1``."""
    return NoiseLevel(1.0, sigma)


def flow_level(sigma: float) -> NoiseLevel:
    """Rectified flow: ``alpha = 1 - sigma``, sigma in [0, 1].

    Raises:
        ValueError: sigma is outside [0, 1].
    """
    if not 0 <= sigma <= 1:
        raise ValueError(f"The sigma of a flow model must be between 0 and 1, got {sigma}.")
    return NoiseLevel(1.0 - sigma, sigma)


def clean_image(x: Tensor, output: Tensor, level: NoiseLevel, prediction: str) -> Tensor:
    """The clean image that a network's output stands for.

    Args:
        x: state of any shape.
        output: of the network, same shape.
        level: noise level of the state.
        prediction: what the network predicts: ``epsilon`` the noise n; ``v_prediction`` ``v = a n - s x0``, with a and
            s those of the state scaled to unit variance (arXiv 2202.00512); ``flow`` the velocity ``n - x0``;
            ``sample`` the clean image.

    Returns:
        A tensor with the shape of ``x``.

    Raises:
        ValueError: the kind of prediction is unknown, or the level has none of the image (epsilon) in it.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}.")
    if prediction == "sample":
        return output
    if prediction == "flow":
        return x - level.sigma * output
    if prediction == "epsilon":
        if level.alpha == 0:
            raise ValueError("At alpha 0, a noise prediction says nothing of the image: start at a lower noise level.")
        return (x - level.sigma * output) / level.alpha
    norm = math.hypot(level.alpha, level.sigma)
    return (level.alpha / norm**2) * x - (level.sigma / norm) * output


def predicted_noise(x: Tensor, denoised: Tensor, level: NoiseLevel) -> Tensor:
    """``eps = (x - alpha x0) / sigma``, same shape as ``x``."""
    return (x - level.alpha * denoised) / level.sigma


def score(x: Tensor, denoised: Tensor, level: NoiseLevel) -> Tensor:
    """The score ``s = -eps / sigma`` (Eq. 3), same shape as ``x``."""
    return -predicted_noise(x, denoised, level) / level.sigma


def next_state(x: Tensor, denoised: Tensor, level: NoiseLevel, after: NoiseLevel) -> Tensor:
    """One deterministic step (DDIM, Euler): ``alpha' x0 + sigma' n`` with ``n = (x - alpha x0) / sigma``.

    Args:
        x: state of any shape.
        denoised: predicted clean image, same shape.
        level: noise level of ``x``, with a sigma above 0.
        after: noise level of the result.

    Returns:
        A tensor with the shape and dtype of ``x``; computed in float32 or wider.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    clean = denoised.to(wide)
    return (after.alpha * clean + after.sigma * predicted_noise(x.to(wide), clean, level)).to(x.dtype)


def renoise(
    x: Tensor,
    clean: Tensor,
    mask: Tensor,
    *,
    alpha: float,
    sigma: float,
    noise: Tensor,
    perturbation: Tensor | None = None,
    gamma: float = 0.0,
) -> Tensor:
    """Replaces the masked part of the state with a re-noised clean image (Eq. 6 in additive form).

    ``where(mask, alpha * (clean + gamma * perturbation) + sigma * noise, x)``. Outside the mask the state stays
    bit-for-bit identical, even if the other inputs hold NaN there.

    Args:
        x: state [B,C,H,W], or [C,H,W] without a batch.
        clean: predicted clean image, broadcastable to ``x``.
        mask: bool, [H,W], [B,H,W], or broadcastable to ``x``.
        alpha: coefficient of the clean image at the state's noise level, >= 0.
        sigma: coefficient of the noise, >= 0.
        noise: standard normal, broadcastable to ``x``.
        perturbation: standard normal, broadcastable to ``x``; required if ``gamma`` is above 0.
        gamma: perturbation intensity, >= 0.

    Returns:
        A tensor with the shape, dtype and device of ``x``; computed in float32 or wider.

    Raises:
        ValueError: the mask is not bool or does not fit, gamma is negative, or the perturbation is missing.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"The mask of renoise must be bool, got {mask.dtype}; threshold it first.")
    if gamma < 0 or (gamma > 0 and perturbation is None):
        raise ValueError(f"gamma must be 0 or more, and above 0 it needs a perturbation; got gamma={gamma}.")
    if mask.ndim == x.ndim - 1 and x.ndim > 2 and mask.shape[0] == x.shape[0]:
        mask = mask.unsqueeze(1)  # [B,H,W] for a state [B,C,H,W]
    try:
        mask = mask.expand_as(x)  # broadcast_shapes would import sympy, a third of a second at the first correction
    except RuntimeError:
        raise ValueError(f"A mask of shape {tuple(mask.shape)} does not fit a state {tuple(x.shape)}.") from None
    wide = torch.promote_types(x.dtype, torch.float32)
    target = clean.to(wide)
    if gamma > 0 and perturbation is not None:
        target = target + gamma * perturbation.to(wide)
    return torch.where(mask, (alpha * target + sigma * noise.to(wide)).to(x.dtype), x)


@dataclass(frozen=True)
class DiscreteSchedule:
    """Training noise levels in increasing order, ``sigma = sqrt((1 - abar) / abar)``; log-linear in between."""

    sigmas: Sequence[float]

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Sequence[float]) -> DiscreteSchedule:
        """From ``abar`` of each training step, decreasing, each in (0, 1)."""
        return cls(tuple(math.sqrt((1 - a) / a) for a in alphas_cumprod))

    def percent_to_sigma(self, percent: float) -> float:
        """Sigma at a share of the schedule, 0 (pure noise) to 1 (clean); values outside are clamped."""
        position = (1 - min(max(percent, 0.0), 1.0)) * (len(self.sigmas) - 1)
        low = min(int(position), len(self.sigmas) - 2)
        w = position - low
        return math.exp((1 - w) * math.log(self.sigmas[low]) + w * math.log(self.sigmas[low + 1]))


@dataclass(frozen=True)
class FlowSchedule:
    """Noise levels of a rectified flow, sigma 1 (pure noise) to 0; a shift above 1 spends more steps at high noise.

    Raises:
        ValueError: the shift is not above 0.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise ValueError(f"The shift of a flow schedule must be above 0, got {self.shift}.")

    def percent_to_sigma(self, percent: float) -> float:
        """Sigma at a share of the schedule, 0 (pure noise) to 1 (clean); values outside are clamped."""
        sigma = 1 - min(max(percent, 0.0), 1.0)
        return self.shift * sigma / (1 + (self.shift - 1) * sigma)


def percent_at(sigma_at: Callable[[float], float], sigma: float) -> float:
    """Share of the schedule at a noise level, 0 (pure noise) to 1 (clean): the inverse of ``sigma_at``.

    Args:
        sigma_at: noise level at a share of the schedule, decreasing.
        sigma: noise level, in the same unit.
    """
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if sigma_at(middle) > sigma else (low, middle)
    return high
