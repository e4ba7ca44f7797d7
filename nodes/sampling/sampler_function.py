"""What has to be known about a sampler's function to start it in mid-run. For most samplers, nothing."""

from __future__ import annotations

import inspect
import math
from typing import Any

import comfy.k_diffusion.sampling as k_sampling
import torch

# By default these draw Brownian noise; all others that take a noise source draw white noise.
BROWNIAN = ("sample_dpmpp_sde", "sample_dpmpp_2m_sde", "sample_dpmpp_2m_sde_heun", "sample_dpmpp_3m_sde")
FAST = "dpm_fast_function"  # makes its own grid between the first and the last noise level
ADAPTIVE = "dpm_adaptive_function"
MIN_STEPS = {"sample_unipc": 2}  # the fewest a function can be started with
# Evaluates every step but its first twice: a run started in mid-run makes one evaluation less.
SKIPS = {"sample_sa_solver_pece": 1}


class SamplerFunction:
    """The function of a ComfyUI sampler, on the noise levels of one run.

    Args:
        sampler: ComfyUI's sampler object.
        sigmas: noise levels passed to the function.

    Attributes:
        function: as ComfyUI calls it; None if the sampler has its own sampling loop.
        name: as shown to users.
        sigmas: noise level of each step that the function reports, and the final one.
        skips: evaluations of a whole run that a run started in mid-run does not make.
    """

    def __init__(self, sampler: Any, sigmas: torch.Tensor) -> None:
        self.function: Any = getattr(sampler, "sampler_function", None)
        self._name = getattr(self.function, "__name__", type(sampler).__name__)
        self.name = self._name.removeprefix("sample_").removesuffix("_function")
        self._evaluations = len(sigmas) - 1
        self._grid = _fast_grid(sigmas) if self._name == FAST and self._evaluations > 0 else None
        self.sigmas = tuple((sigmas if self._grid is None else self._grid).tolist())
        self.skips = SKIPS.get(self._name, 0)

    def obstacle(self) -> str:
        """Why the sampler cannot be watched; empty if it can."""
        if self.function is None:
            return f"sampler {self.name} has its own sampling loop"
        if self._name == ADAPTIVE:
            return f"sampler {self.name} picks its noise levels during the run, from the error over the whole batch"
        return ""

    def can_enter(self, step: int) -> bool:
        """True if a run can start at this step."""
        if self._grid is not None:
            return self._evaluations - 3 * step >= 1
        return len(self.sigmas) - 1 - step >= MIN_STEPS.get(self._name, 1)

    def entry(self, step: int, sigmas: torch.Tensor) -> torch.Tensor:
        """The noise levels for continuing from a step; a copy, since some functions write into it."""
        if self._grid is None:
            return sigmas[step:].clone()
        # Three evaluations per step: from these levels, the function makes the rest of the same grid.
        rest = self._grid[-1:].repeat(self._evaluations - 3 * step)
        return torch.cat([self._grid[step : step + 1], rest])

    def noise_source(self, x: torch.Tensor, sigmas: torch.Tensor, seed: int | None) -> Any:
        """The noise source that the function would create by default; None if it takes none."""
        if "noise_sampler" not in inspect.signature(self.function).parameters:
            return None
        if self._name.removesuffix("_gpu") not in BROWNIAN:
            return k_sampling.default_noise_sampler(x, seed=seed)
        on_cpu = not self._name.endswith("_gpu")
        return k_sampling.BrownianTreeNoiseSampler(x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=on_cpu)


def _fast_grid(sigmas: torch.Tensor) -> torch.Tensor:
    """Noise levels of DPM-Solver-fast: evenly spaced in log-SNR, three evaluations per step (arXiv 2206.00927)."""
    end = sigmas[-1] if sigmas[-1] > 0 else sigmas[-2]
    steps = math.floor((len(sigmas) - 1) / 3) + 1
    return torch.linspace(float(-sigmas[0].log()), float(-end.log()), steps + 1, device=sigmas.device).neg().exp()
