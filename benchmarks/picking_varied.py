"""The runs of picking.py with other samplers, step counts and guidance."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asced_core.detect.run_score import READ_AT, step_at
from benchmarks.hands import COMFYUI, HandSampler, to_uint8
from benchmarks.methods import one_thread
from benchmarks.picking_runs import packed
from demo.hand_unet import CLASSES, NULL_CLASS

FIRST = 90000  # first seed


@dataclass(frozen=True)
class Variation:
    """One way of sampling: ComfyUI's k-diffusion function ``sample_NAME``, or the benchmarks' own DDIM."""

    sampler: str = "ddim"
    steps: int = 25
    guidance: float = 1.0


VARIATIONS = {
    "DDIM, 10 steps": Variation(steps=10),
    "DDIM, 50 steps": Variation(steps=50),
    "Euler ancestral": Variation("euler_ancestral"),
    "DPM++ 2M": Variation("dpmpp_2m"),
    "Heun": Variation("heun"),
    "guidance 2": Variation(guidance=2.0),
    "guidance 4": Variation(guidance=4.0),
}


class GuidedModel:
    """A hand model as k-diffusion calls it, with classifier-free guidance."""

    def __init__(self, sampler: HandSampler, labels: Tensor, guidance: float) -> None:
        self.sampler, self.labels, self.guidance = sampler, labels, guidance
        self.inner_model = SimpleNamespace(inner_model=SimpleNamespace(model_sampling=None))  # ancestral samplers ask

    def __call__(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        step = int(np.abs(np.log(np.array(self.sampler.sigmas[:-1]) / float(sigma.flatten()[0]))).argmin())
        denoised = self.sampler.denoise(x, step, self.labels)
        if self.guidance == 1:
            return denoised
        without = self.unlabeled(x, step)
        return without + self.guidance * (denoised - without)

    def unlabeled(self, x: Tensor, step: int) -> Tensor:
        """The prediction without a label."""
        return self.sampler.denoise(x, step, torch.full_like(self.labels, NULL_CLASS))


def record_varied(bed: str, places: list[int], names: list[str]) -> dict[str, bytes]:
    """A task of the farm: records the runs at some places, one file per variation."""
    one_thread()
    torch.set_flush_denormal(True)
    return {name: record_variation(VARIATIONS[name], bed, [FIRST + place for place in places]) for name in names}


@torch.inference_mode()
def record_variation(variation: Variation, bed: str, seeds: list[int]) -> bytes:
    """Records the runs of some seeds: what the score reads, and the images."""
    sampler = HandSampler(bed, variation.steps)
    labels = torch.tensor([seed % CLASSES for seed in seeds])
    model, read = GuidedModel(sampler, labels, variation.guidance), step_at(variation.steps, READ_AT)
    kept: dict[str, Tensor] = {}

    def watch(step: dict[str, Any]) -> None:
        if step["i"] == read // 2:
            kept["earlier"] = step["denoised"]
        if step["i"] == read:
            kept["now"], kept["unlabeled"] = step["denoised"], model.unlabeled(step["x"], read)

    generator = torch.Generator().manual_seed(seeds[0])
    x = sampler.start(seeds)
    clean = _function(variation.sampler, generator)(model, x, torch.tensor(sampler.sigmas), watch)
    arrays = {name: value.half().numpy() for name, value in kept.items()}
    return packed(seeds=np.array(seeds), labels=labels.numpy(), images=to_uint8(sampler.decode(clean)), **arrays)


def _function(name: str, generator: torch.Generator) -> Callable[..., Tensor]:
    if name == "ddim":
        return _ddim
    if not os.environ.get(COMFYUI):
        raise RuntimeError(f"The samplers of k-diffusion are ComfyUI's: set {COMFYUI} to the ComfyUI folder.")
    from demo.train_latent import load_host

    load_host(Path(os.environ[COMFYUI]))
    from comfy.k_diffusion import sampling

    function = getattr(sampling, f"sample_{name}")

    def run(model: GuidedModel, x: Tensor, sigmas: Tensor, watch: Callable[[dict[str, Any]], None]) -> Tensor:
        noise = {"noise_sampler": lambda *_: torch.randn(x.shape, generator=generator)} if "ancestral" in name else {}
        return function(model, x, sigmas, callback=watch, disable=True, **noise)

    return run


def _ddim(model: GuidedModel, x: Tensor, sigmas: Tensor, watch: Callable[[dict[str, Any]], None]) -> Tensor:
    for step, sigma in enumerate(sigmas[:-1]):
        denoised = model(x, sigma)
        watch({"i": step, "x": x, "denoised": denoised})
        x = model.sampler.next_state(x, denoised, step)
    return x
