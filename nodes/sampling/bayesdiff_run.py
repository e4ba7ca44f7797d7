"""A ComfyUI run that also computes its variance: fits and samples in place of a sampler's function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...asced_core.baselines.bayesdiff import (
    LastLayerLaplace,
    as_offset,
    fit_pair,
    guided_variance,
    sample_with_uncertainty,
)
from ...asced_core.baselines.last_layer import LastLayerTap, find_last_layer
from ...asced_core.correct.renoising import item_generator
from .plan import noise_level

MOST_IMAGES = 1000  # to fit a posterior on, as in the authors' code


class GuidanceSides:
    """The positive and negative predictions of ComfyUI's last call; a post-CFG hook."""

    def __init__(self) -> None:
        self.scale = 1.0
        self.sides: tuple[Tensor, Tensor] | None = None

    def __call__(self, args: dict[str, Any]) -> Tensor:
        self.scale = float(args["cond_scale"])
        self.sides = args["cond_denoised"], args["uncond_denoised"]
        return args["denoised"]

    def taken(self) -> tuple[Tensor, Tensor]:
        assert self.sides is not None
        return self.sides


class UncertainRun:
    """Replaces the sampler in a ComfyUI run: fits a posterior or loads one, then samples.

    Args:
        model: ComfyUI's ModelPatcher.
        clean: latents to fit on, as encoded by ComfyUI's VAE; None if there is a file.
        file: a saved posterior.
        seed: of the draws.
        step_interval, draws: see sample_with_uncertainty.

    Attributes:
        patched: the model to sample with.
        laplace: the posterior, once the run has begun.
        variance: of the images, once it has ended.
    """

    def __init__(
        self, model: Any, clean: Tensor | None, file: Path | None, seed: int, step_interval: int, draws: int
    ) -> None:
        self.sides = GuidanceSides()
        self.patched = model.clone()
        self.patched.set_model_sampler_post_cfg_function(self.sides)
        self._clean, self._file, self._seed = clean, file, seed
        self._step_interval, self._draws = step_interval, draws
        self.laplace: LastLayerLaplace | None = None
        self.variance: Tensor | None = None

    def __call__(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Any = None,
        disable: bool | None = None,
    ) -> Tensor:
        """A sampler's function, as ComfyUI calls it."""
        args, levels = extra_args or {}, sigmas.tolist()
        network = self.patched.model.diffusion_model

        def at(x: Tensor, sigma: float, **own: Any) -> Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            return model(x, sigma * x.new_ones(len(x)), **{**args, **own})

        layer = find_last_layer(network, lambda: at(x, levels[0]))
        self.laplace = LastLayerLaplace(layer)
        with LastLayerTap(layer) as tap:
            if self._file is not None:
                self.laplace.load(self._file)
            else:
                self.laplace.fit(self._pairs(tap, at, x))
            draw = [item_generator(self._seed, i) for i in range(len(x))]

            def on_step(step: int, x: Tensor, denoised: Tensor) -> None:
                if callback is not None:
                    callback(
                        {"i": step, "denoised": denoised, "x": x, "sigma": sigmas[step], "sigma_hat": sigmas[step]}
                    )

            def predict(x: Tensor, step: int) -> Tensor:
                tap.clear()
                return at(x, levels[step])

            samples, self.variance = sample_with_uncertainty(
                predict, lambda x, step, _: self._spread(tap, lambda: at(x, levels[step])), x, levels, draw,
                self._step_interval, self._draws, on_step,
            )  # fmt: skip
        mask = args.get("denoise_mask")
        if mask is not None:  # outside the inpaint mask nothing is uncertain
            self.variance = self.variance * mask
        return samples

    def _spread(self, tap: LastLayerTap, again: Callable[[], object]) -> Tensor:
        """Variance of the last call's guided prediction, at the cost of one more call."""
        assert self.laplace is not None
        sides, offsets = self.sides.taken(), as_offset([self.laplace.variance(h) for h in tap.features])
        tap.clear()
        tap.offsets, factor = offsets
        again()
        moved = self.sides.taken()
        cond, uncond = (((b - a).float() / factor).square() for a, b in zip(sides, moved, strict=True))
        if self.sides.scale == 1.0:  # ComfyUI skips the negative prediction
            return cond
        return guided_variance(self.sides.scale, cond, uncond)

    def _pairs(self, tap: LastLayerTap, at: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image at a random noise level."""
        assert self._clean is not None
        sampling = self.patched.get_model_object("model_sampling")
        clean = self.patched.model.process_latent_in(self._clean.to(x.device, torch.float32))
        generator = item_generator(self._seed, len(x))  # after those of the sampled images
        for one in clean[:MOST_IMAGES].split(1):
            percent = float(torch.rand(1, generator=generator)) * 0.98 + 0.01
            level = noise_level(sampling, float(sampling.percent_to_sigma(percent)))
            noise = torch.randn(one.shape, generator=generator).to(one)
            state = level.alpha * one + level.sigma * noise

            def side(x: Tensor, sigma: float = level.sigma) -> Tensor:
                at(x, sigma, denoise_mask=None)  # the mask belongs to the sampled images
                return self.sides.taken()[0]

            yield fit_pair(tap, side, state, one, level.sigma)
