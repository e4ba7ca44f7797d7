"""The beds of the benchmarks: the hand models in a plain DDIM loop around the core, without a host.

One run of a batch is sampled as usual and recorded; every method is then shown the recording and goes on by itself
only from where it changes something. So all methods have the same seeds, and what a method does not change costs
nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from asced_core import CorrectionSettings, DetectionSettings, Trajectory, edm_level
from asced_core.noise import DiscreteSchedule
from asced_core.regions import BoolMap
from demo.hand_unet import CLASSES, STEPS, HandUNet, alphas_cumprod

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = Path(__file__).resolve().parent / "weights"
BEDS = {
    "early": (WEIGHTS / "hands64_early.safetensors", 0),  # local pieces in one image of ten
    "final": (ROOT / "demo" / "hands64.safetensors", 4),  # malformed hands
}
SIDE = 64


class HandSampler:
    """A hand model on the DDIM schedule of the paper: training steps 0 to 999, evenly respaced.

    Args:
        bed: name of the weights, see BEDS.
        steps: of DDIM.
    """

    def __init__(self, bed: str, steps: int = 25) -> None:
        file, border = BEDS[bed]
        self.net = HandUNet(border=border).eval()
        self.net.load_state_dict(load_file(file))
        abar = alphas_cumprod().double()
        self.timesteps = np.linspace(0, STEPS - 1, steps).round().astype(int)[::-1].tolist()
        every = ((1 - abar) / abar).sqrt().tolist()
        self.schedule = DiscreteSchedule(tuple(every))
        self.sigmas = [every[t] for t in self.timesteps] + [0.0]
        self.calls = 0

    def start(self, seeds: list[int]) -> Tensor:
        """Pure noise, each image by its own seed, divided by alpha as k-diffusion keeps it."""
        noise = [torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(noise) * math.sqrt(1 + self.sigmas[0] ** 2)

    def denoise(self, x: Tensor, step: int, labels: Tensor) -> Tensor:
        """Predicted clean images [B,3,64,64]."""
        sigma = self.sigmas[step]
        scaled = x / math.sqrt(1 + sigma**2)
        self.calls += len(x)
        eps = self.net(scaled, torch.full((len(x),), self.timesteps[step]), labels)
        return x - sigma * eps

    def next_state(self, x: Tensor, denoised: Tensor, step: int) -> Tensor:
        """DDIM without new noise."""
        return denoised + (x - denoised) * (self.sigmas[step + 1] / self.sigmas[step])


@dataclass(frozen=True)
class Recording:
    """States and predictions of a run as usual, [steps][B,3,64,64], and its images."""

    seeds: list[int]
    labels: Tensor
    states: list[Tensor]
    predictions: list[Tensor]
    images: Tensor
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a method made of a recorded run.

    Attributes:
        images: uint8 [B,64,64,3].
        masks: bool [B,64,64], what it found.
        corrected: bool [B].
        calls: model calls for one image each, besides those of the recorded run.
        seconds: spent in detection and correction, without the model.
    """

    images: NDArray[np.uint8]
    masks: BoolMap
    corrected: NDArray[np.bool_]
    calls: int
    seconds: float


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Pictures in -1 to 1 [B,3,H,W] as uint8 [B,H,W,3]."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).numpy()


@torch.inference_mode()
def record(sampler: HandSampler, seeds: list[int]) -> Recording:
    """A run as usual; the image of a seed shows the digit ``seed % 10``."""
    labels = torch.tensor([seed % CLASSES for seed in seeds])
    x = sampler.start(seeds)
    states, predictions = [], []
    begin = time.perf_counter()
    for step in range(len(sampler.timesteps)):
        denoised = sampler.denoise(x, step, labels)
        states.append(x)
        predictions.append(denoised)
        x = sampler.next_state(x, denoised, step)
    return Recording(seeds, labels, states, predictions, x, time.perf_counter() - begin)


@torch.inference_mode()
def correct(
    sampler: HandSampler,
    run: Recording,
    detection: DetectionSettings,
    correction: CorrectionSettings,
    judge: Callable[[Tensor], BoolMap] | None = None,
) -> Outcome:
    """Shows a recorded run to a trajectory, and goes on by itself from where that changes something."""
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
        begin = clock()
        steered = trajectory.steer(step, denoised)
        trajectory.observe(step, x, denoised)
        acts = trajectory.is_due(step) and trajectory.decide()
        if acts:
            x = trajectory.correct(x, denoised)
        own += clock() - begin
        if acts:
            now = torch.tensor(trajectory.acting)
            steered = steered.clone()
            steered[now] = sampler.denoise(x[now], step, run.labels[now])
            trajectory.observe(step, x, steered)
            rows = rows | now
        rows = rows | (steered != denoised).flatten(1).any(1)
        x = sampler.next_state(x, steered, step)
    images = torch.where(rows.view(-1, 1, 1, 1), x, run.images)
    masks = np.stack([d.mask for d in trajectory.detections])
    return Outcome(to_uint8(images), masks, rows.numpy(), sampler.calls - calls, own)
