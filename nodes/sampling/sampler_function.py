"""A sampler's function: how it was called, and what has to be known to start it in mid-run.

For a foreign one, nothing is known.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import comfy.extra_samplers.uni_pc as uni_pc
import comfy.k_diffusion.sampling as k_sampling
import comfy.model_management
import comfy.samplers
import torch

from ...asced_core.kdiffusion import SAME_SIGMA, SideEffects, obstacle_to_entry

# By default these draw Brownian noise, which depends on the highest and the lowest level of a run.
BROWNIAN = ("sample_dpmpp_sde", "sample_dpmpp_2m_sde", "sample_dpmpp_2m_sde_heun", "sample_dpmpp_3m_sde")
FAST = "dpm_fast_function"  # makes its own grid between the first and the last noise level
ADAPTIVE = "dpm_adaptive_function"
MIN_STEPS = {"sample_unipc": 2}  # the fewest a function can be started with
# Evaluates every step but its first twice: a run started in mid-run makes one evaluation less.
SKIPS = {"sample_sa_solver_pece": 1}
MODULES = (k_sampling, uni_pc, comfy.samplers)  # where ComfyUI's own functions are defined


@dataclass(frozen=True)
class Start:
    """How the sampler's function was called.

    Attributes:
        sigmas: noise levels.
        options: its keyword arguments, without the callback.
        extra_args: a copy of those from before the run, because some functions add their own hooks to them.
        source: noise source among the options that is recorded as a whole; None if there is none.
        keep_original: also finishes the run without a correction.
    """

    sigmas: torch.Tensor
    options: dict[str, Any]
    extra_args: dict[str, Any]
    source: Callable[..., torch.Tensor] | None
    keep_original: bool

    @property
    def area(self) -> torch.Tensor | None:
        """The inpainted area (> 0); None is the whole image."""
        return self.extra_args.get("denoise_mask")


class SamplerFunction:
    """The function of a ComfyUI sampler, on the noise levels of one run.

    Args:
        sampler: ComfyUI's sampler object.
        sigmas: noise levels passed to the function.

    Attributes:
        function: as ComfyUI calls it; None if the sampler has its own sampling loop.
        own: True if the function is ComfyUI's own. What is known of those is not applied to any other, however alike.
        name: as shown to users.
        sigmas: noise level of each step that the function reports, and the final one.
        skips: evaluations of a whole run that a run started in mid-run does not make.
    """

    def __init__(self, sampler: Any, sigmas: torch.Tensor) -> None:
        self.function: Any = getattr(sampler, "sampler_function", None)
        named = self.function.func if isinstance(self.function, partial) else self.function
        name = getattr(named, "__name__", type(sampler).__name__)
        self.name = name.removeprefix("sample_").removesuffix("_function")
        self.own = _is_own(self.function)
        self._name = name if self.own else ""
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
        """True if there are enough steps left for a run that starts at this step."""
        if self._grid is not None:
            return self._evaluations - 3 * step >= 1
        return len(self.sigmas) - 1 - step >= MIN_STEPS.get(self._name, 1)

    def obstacle_to_entry(
        self,
        model: Any,
        x: torch.Tensor,
        sigmas: torch.Tensor,
        step: int,
        reported: int,
        options: dict[str, Any],
        effects: SideEffects,
        tolerance: float = SAME_SIGMA,
    ) -> str:
        """What keeps a foreign function from starting at this step; see ``rehearsal.obstacle_to_entry``."""
        if self.own:
            return ""
        own = _hooks((options.get("extra_args") or {}).get("model_options"))

        def zeros(x: torch.Tensor, sigma: Any, model_options: Any = None, **_: Any) -> torch.Tensor:
            """Answers as ComfyUI would, down to the hooks by which a sampler reads the guidance."""
            out = torch.zeros_like(x)
            for hook in _hooks(model_options):
                if hook not in own:  # the sampler's
                    hook({
                        "denoised": out, "cond_denoised": out, "uncond_denoised": out, "sigma": sigma, "input": x,
                        "cond_scale": 1.0, "model_options": model_options, "model": None, "cond": [], "uncond": [],
                    })  # fmt: skip
            return out

        return obstacle_to_entry(
            self.function,
            model,
            zeros,
            x,
            sigmas,
            step,
            reported,
            options,
            effects,
            tolerance,
            comfy.model_management.InterruptProcessingException,
        )

    def entry(self, step: int, sigmas: torch.Tensor) -> torch.Tensor:
        """The noise levels for continuing from a step; a copy, since some functions write into it."""
        if self._grid is None:
            return sigmas[step:].clone()
        # Three evaluations per step: from these levels, the function makes the rest of the same grid.
        rest = self._grid[-1:].repeat(self._evaluations - 3 * step)
        return torch.cat([self._grid[step : step + 1], rest])

    def noise_source(
        self, given: Any, x: torch.Tensor, sigmas: torch.Tensor, seed: int | None
    ) -> Callable[..., torch.Tensor] | None:
        """The noise source that is recorded as a whole; None leaves the function's noise to the tape.

        Args:
            given: ``noise_sampler`` in the sampler's options.
            x: the first state.
            sigmas: noise levels of the run.
            seed: of the run.
        """
        if given is not None:
            # any callable object may be more than a function to a foreign sampler
            plain = self.own or isinstance(given, (FunctionType, MethodType, partial))
            return given if callable(given) and plain else None
        return self._brownian(x, sigmas, seed) if self._name.removesuffix("_gpu") in BROWNIAN else None

    def noise_of_each(
        self, x: torch.Tensor, sigmas: torch.Tensor, seeds: Sequence[int]
    ) -> Callable[..., torch.Tensor] | None:
        """A noise source that gives each image the noise of a run of its own.

        None for fewer than two seeds, for a foreign function, and for one that has no such source.

        Args:
            x: the first state.
            sigmas: noise levels of the run.
            seeds: one for each image.
        """
        if len(seeds) < 2 or not self.own or "noise_sampler" not in inspect.signature(self.function).parameters:
            return None
        make = self._brownian if self._name.removesuffix("_gpu") in BROWNIAN else _plain
        each = [make(row, sigmas, seed) for row, seed in zip(x.split(1), seeds, strict=True)]
        return lambda sigma, sigma_next: torch.cat([one(sigma, sigma_next) for one in each])

    def _brownian(self, x: torch.Tensor, sigmas: torch.Tensor, seed: int | None) -> Callable[..., torch.Tensor]:
        on_cpu = not self._name.endswith("_gpu")
        source: Callable[..., torch.Tensor] = k_sampling.BrownianTreeNoiseSampler(
            x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=on_cpu
        )
        return source


def _plain(x: torch.Tensor, _: torch.Tensor, seed: int | None) -> Callable[..., torch.Tensor]:
    source: Callable[..., torch.Tensor] = k_sampling.default_noise_sampler(x, seed=seed)
    return source


def _hooks(model_options: Any) -> list[Any]:
    return list((model_options or {}).get("sampler_post_cfg_function", []))


def _is_own(function: Any) -> bool:
    """True if a function, and everything that decorates it, is defined by ComfyUI or is torch's ``no_grad``."""
    decorator = torch.no_grad()(lambda: None).__globals__
    homes = [vars(module) for module in MODULES] + [decorator]
    while isinstance(function, FunctionType):
        if not any(function.__globals__ is home for home in homes):
            return False
        if not hasattr(function, "__wrapped__"):
            return function.__globals__ is not decorator
        function = function.__wrapped__
    return False


def _fast_grid(sigmas: torch.Tensor) -> torch.Tensor:
    """Noise levels of DPM-Solver-fast: evenly spaced in log-SNR, three evaluations per step (arXiv 2206.00927)."""
    end = sigmas[-1] if sigmas[-1] > 0 else sigmas[-2]
    steps = math.floor((len(sigmas) - 1) / 3) + 1
    return torch.linspace(float(-sigmas[0].log()), float(-end.log()), steps + 1, device=sigmas.device).neg().exp()
