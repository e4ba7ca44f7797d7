"""The beds of the benchmarks: the hand models in a plain DDIM loop around the core, without a host's nodes.

One run of a batch is sampled as usual and recorded; every method is then shown the recording and goes on by itself
only from where it changes something. So all methods have the same seeds, and what a method does not change costs
nothing.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from asced_core import CorrectionSettings, DetectionSettings, Trajectory, edm_level
from asced_core.maps import BoolMap
from asced_core.noise import DiscreteSchedule
from demo.hand_unet import CLASSES, LATENT, STEPS, HandUNet, alphas_cumprod
from demo.latent_space import CHANNELS, DOWNSCALE

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = Path(__file__).resolve().parent / "weights"
DEMO = ROOT / "demo"
BEDS: dict[str, tuple[Path, dict[str, Any]]] = {
    "early": (WEIGHTS / "hands64_early.safetensors", {"border": 0}),  # local pieces in one image of ten
    "final": (DEMO / "hands64.safetensors", {"border": 4}),  # malformed hands
    "latent": (DEMO / "latent_unet.safetensors", LATENT),  # the same by latent diffusion
}
SIDE = 64  # of the pictures
COMFYUI = "ASCED_COMFYUI"  # names the folder whose autoencoder the latent bed is decoded with


def beds_here() -> list[str]:
    """The beds that can run: the latent one needs ComfyUI's classes."""
    return [bed for bed in BEDS if bed != "latent" or os.environ.get(COMFYUI)]


@cache
def _autoencoder() -> tuple[Any, float]:
    """The host's autoencoder with the demo's weights, and the scale of its latents."""
    if not os.environ.get(COMFYUI):
        raise RuntimeError(f"The latent bed is decoded by ComfyUI's classes: name its folder in {COMFYUI}.")
    from demo.train_latent import build_autoencoder, load_host

    load_host(Path(os.environ[COMFYUI]))
    state = load_file(DEMO / "latent_autoencoder.safetensors")
    return build_autoencoder(state).eval(), float(state["latent_scale"])


class HandSampler:
    """A hand model on the DDIM schedule of the paper: training steps 0 to 999, evenly respaced.

    Args:
        bed: name of the weights, see BEDS.
        steps: of DDIM.

    Attributes:
        shape: of a state, (C, H, W).
        sigmas: noise levels of the steps and the last one, 0, as k-diffusion has them.
        calls, seconds: of the network up to now; images are counted one by one.
    """

    def __init__(self, bed: str, steps: int = 25) -> None:
        file, options = BEDS[bed]
        self.net = HandUNet(**options).eval()
        self.net.load_state_dict(load_file(file))
        self.bed, self.latent = bed, bed == "latent"
        self.shape = (CHANNELS, SIDE // DOWNSCALE, SIDE // DOWNSCALE) if self.latent else (3, SIDE, SIDE)
        abar = alphas_cumprod(self.latent).double()
        self.timesteps = np.linspace(0, STEPS - 1, steps).round().astype(int)[::-1].tolist()
        every = ((1 - abar) / abar).sqrt().tolist()
        self.schedule = DiscreteSchedule(tuple(every))
        self.sigmas = [every[t] for t in self.timesteps] + [0.0]
        self.calls, self.seconds = 0, 0.0

    def start(self, seeds: list[int]) -> Tensor:
        """Pure noise, each image by its own seed, divided by alpha as k-diffusion keeps it."""
        noise = [torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(noise) * math.sqrt(1 + self.sigmas[0] ** 2)

    def denoise(self, x: Tensor, step: int, labels: Tensor) -> Tensor:
        """Predicted clean images [B,C,H,W]."""
        sigma, begin = self.sigmas[step], time.perf_counter()
        scaled = x / math.sqrt(1 + sigma**2)
        eps = self.net(scaled, torch.full((len(x),), self.timesteps[step]), labels)
        self.calls += len(x)
        self.seconds += time.perf_counter() - begin
        return x - sigma * eps

    def next_state(self, x: Tensor, denoised: Tensor, step: int) -> Tensor:
        """DDIM without new noise."""
        return denoised + (x - denoised) * (self.sigmas[step + 1] / self.sigmas[step])

    def decode(self, clean: Tensor) -> Tensor:
        """Clean states [B,C,H,W] as pictures [B,3,64,64], about -1 to 1."""
        if not self.latent or not len(clean):
            return clean if not self.latent else clean.new_zeros(0, 3, SIDE, SIDE)
        autoencoder, scale = _autoencoder()
        return autoencoder.decode(clean / scale)

    def watched(self, detection: DetectionSettings) -> range:
        """The steps between T_d and T_c."""
        start, end = (self.schedule.percent_to_sigma(p) for p in (detection.start_percent, detection.end_percent))
        inside = [i for i, s in enumerate(self.sigmas[:-1]) if end < s <= start]
        return range(inside[0], inside[-1] + 1)


@dataclass(frozen=True)
class Recording:
    """States and predictions of a run as usual, [steps][B,C,H,W], and its pictures [B,3,64,64]."""

    seeds: list[int]
    labels: Tensor
    states: list[Tensor]
    predictions: list[Tensor]
    images: Tensor


@dataclass(frozen=True)
class Outcome:
    """What a method made of a recorded run.

    Attributes:
        images: uint8 [B,64,64,3].
        masks: bool [B,H,W], what it found, in cells of the state.
        corrected: bool [B].
        calls: model calls for one image each, besides those of the recorded run.
        seconds: spent in detection and correction, without the model.
    """

    images: NDArray[np.uint8]
    masks: BoolMap
    corrected: NDArray[np.bool_]
    calls: int
    seconds: float


@torch.inference_mode()
def encode(sampler: HandSampler, images: NDArray[np.uint8]) -> Tensor:
    """Pictures uint8 [B,64,64,3] as clean states of a bed [B,C,H,W]."""
    pictures = torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1
    if not sampler.latent:
        return pictures
    autoencoder, scale = _autoencoder()
    return torch.cat([autoencoder.encode(part) * scale for part in pictures.split(64)])


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Pictures in -1 to 1 [B,3,H,W] as uint8 [B,H,W,3]."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).numpy()


@torch.inference_mode()
def record(sampler: HandSampler, seeds: list[int]) -> Recording:
    """A run as usual; the image of a seed shows the digit ``seed % 10``."""
    labels = torch.tensor([seed % CLASSES for seed in seeds])
    x = sampler.start(seeds)
    states, predictions = [], []
    for step in range(len(sampler.timesteps)):
        denoised = sampler.denoise(x, step, labels)
        states.append(x)
        predictions.append(denoised)
        x = sampler.next_state(x, denoised, step)
    return Recording(seeds, labels, states, predictions, sampler.decode(x))


@torch.inference_mode()
def correct(
    sampler: HandSampler,
    run: Recording,
    detection: DetectionSettings,
    correction: CorrectionSettings,
    judge: Callable[[Tensor], BoolMap] | None = None,
    on_state: Callable[[Tensor], object] | None = None,
) -> Outcome:
    """Shows a recorded run to a trajectory, and goes on by itself from where that changes something.

    ``on_state`` is told the state that each step starts from, a corrected one where it is.
    """
    start, end, last = (
        sampler.schedule.percent_to_sigma(percent)
        for percent in (detection.start_percent, detection.end_percent, correction.last_percent)
    )
    levels = [edm_level(s) for s in sampler.sigmas]
    trajectory = Trajectory(
        detection, correction, sampler.sigmas, start, end, levels, judge=judge, items=run.seeds, sigma_last=last
    )
    calls, own, clock = sampler.calls, 0.0, time.perf_counter
    x, rows = run.states[0], torch.zeros(len(run.seeds), dtype=torch.bool)  # rows that left the recording
    for step in range(len(sampler.timesteps)):
        denoised = run.predictions[step].clone()
        x = torch.where(rows.view(-1, 1, 1, 1), x, run.states[step])
        if rows.any():
            denoised[rows] = sampler.denoise(x[rows], step, run.labels[rows])
        begin, model = clock(), sampler.seconds
        steered = trajectory.steer(step, denoised)
        trajectory.observe(step, x, denoised)
        acts = trajectory.is_due(step) and trajectory.decide()
        if acts:
            x = trajectory.correct(x, denoised)
        own += clock() - begin - (sampler.seconds - model)  # a judge may call the model
        if acts:
            now = torch.tensor(trajectory.acting)
            steered = steered.clone()
            steered[now] = sampler.denoise(x[now], step, run.labels[now])
            trajectory.observe(step, x, steered)
            rows = rows | now
        if on_state is not None:
            on_state(x)
        rows = rows | (steered != denoised).flatten(1).any(1)
        x = sampler.next_state(x, steered, step)
    images = run.images.clone()
    images[rows] = sampler.decode(x[rows])
    masks = np.stack([d.mask for d in trajectory.detections])
    return Outcome(to_uint8(images), masks, rows.numpy(), sampler.calls - calls, own)
