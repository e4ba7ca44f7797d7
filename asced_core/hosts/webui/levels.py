"""Noise levels of a WebUI's model: what its states are made of, and where on its schedule they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from ...noise import DiscreteSchedule, NoiseLevel, edm_level, flow_level


class Scale(Protocol):
    """The noise levels of one model."""

    def level(self, sigma: float) -> NoiseLevel:
        """Alpha and sigma of a state at the sampler's sigma.

        Raises:
            ValueError: at this sigma, a state is not a mix of image and noise.
        """
        ...

    def sigma_at(self, percent: float) -> float:
        """Sigma at a share of the schedule, 0 (pure noise) to 1 (clean)."""
        ...


class Measured:
    """Of a model that adds noise by itself, as in Forge and reForge; measured, so a flow model is no special case.

    Args:
        sampling: the WebUI's object with ``noise_scaling``, ``percent_to_sigma`` and ``sigma_max``.
    """

    def __init__(self, sampling: Any) -> None:
        self._sampling = sampling

    def level(self, sigma: float) -> NoiseLevel:
        at, zero, one = torch.tensor([sigma]), torch.zeros(1, 1), torch.ones(1, 1)
        scaled = self._sampling.noise_scaling  # may write into its arguments
        return NoiseLevel(float(scaled(at, zero.clone(), one.clone())), float(scaled(at, one.clone(), zero.clone())))

    def sigma_at(self, percent: float) -> float:
        # at 0 percent, the answer may be a stand-in for infinity
        return min(float(self._sampling.percent_to_sigma(percent)), float(self._sampling.sigma_max))


class Trained:
    """Of a model with a list of noise levels that it was trained at, as in AUTOMATIC1111.

    Args:
        sigmas: these levels, increasing.
        flow: True for a rectified flow, such as SD3.
    """

    def __init__(self, sigmas: Sequence[float], flow: bool = False) -> None:
        self._schedule = DiscreteSchedule(tuple(sigmas))
        self._level = flow_level if flow else edm_level

    def level(self, sigma: float) -> NoiseLevel:
        return self._level(sigma)

    def sigma_at(self, percent: float) -> float:
        return self._schedule.percent_to_sigma(percent)


def scale_of(model: Any, wrapped: Any) -> Scale | None:
    """The noise levels of a WebUI's model; None if it does not tell them.

    Args:
        model: ``p.sd_model``.
        wrapped: ``p.sampler.model_wrap``, for a model without noise levels of its own.
    """
    objects = getattr(model, "forge_objects", None)
    network = getattr(getattr(objects, "unet", None), "model", None)
    for name in ("predictor", "model_sampling"):
        sampling = getattr(network, name, None)
        if hasattr(sampling, "percent_to_sigma") and hasattr(sampling, "noise_scaling"):
            return Measured(sampling)
    sigmas = getattr(wrapped, "sigmas", None)
    if sigmas is None or len(sigmas) < 2:
        return None
    values = [float(sigma) for sigma in sigmas]
    if any(not 0 < sigma < math.inf for sigma in values):
        return None
    return Trained(sorted(values), bool(getattr(model, "is_sd3", False)))
