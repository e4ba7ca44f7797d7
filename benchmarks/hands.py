"""The benchmarks' test sets: the hand models in a plain DDIM loop around the core, without ComfyUI's nodes.

Each batch is sampled once without corrections and recorded. Every method then replays the recording and runs the model
only from the step where it changes something. So all methods share the same seeds, and an unchanged image costs
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

from asced_core import (
    CorrectionSettings,
    Corrector,
    DetectionSettings,
    DiscreteSchedule,
    Schedule,
    Trajectory,
    Watcher,
    edm_level,
)
from asced_core.baselines.steering import Steering
from asced_core.detect.given import FindMasks
from asced_core.detect.learned import Learned
from asced_core.maps import BoolMap
from demo.hand_unet import CLASSES, LATENT, STEPS, HandUNet, alphas_cumprod
from demo.latent_space import CHANNELS, DOWNSCALE

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = Path(__file__).resolve().parent / "weights"
DEMO = ROOT / "demo"
TEST_SETS: dict[str, tuple[Path, dict[str, Any]]] = {
    "early": (WEIGHTS / "hands64_early.safetensors", {"border": 0}),  # stray pieces in one of ten images
    "final": (DEMO / "hands64.safetensors", {"border": 4}),  # malformed hands
    "latent": (DEMO / "latent_unet.safetensors", LATENT),  # malformed hands, by latent diffusion
}
SIDE = 64  # of the images
COMFYUI = "ASCED_COMFYUI"  # the ComfyUI folder whose autoencoder decodes the latent test set


def available_test_sets() -> list[str]:
    """The test sets that can run here: latent needs ComfyUI's classes."""
    return [name for name in TEST_SETS if name != "latent" or os.environ.get(COMFYUI)]


@cache
def _autoencoder() -> tuple[Any, float]:
    """ComfyUI's autoencoder with the demo's weights, and the scale of its latents."""
    if not os.environ.get(COMFYUI):
        raise RuntimeError(f"The latent test set needs ComfyUI's autoencoder: set {COMFYUI} to the ComfyUI folder.")
    from demo.train_latent import build_autoencoder, load_host

    load_host(Path(os.environ[COMFYUI]))
    state = load_file(DEMO / "latent_autoencoder.safetensors")
    return build_autoencoder(state).eval(), float(state["latent_scale"])


class HandSampler:
    """A hand model on the paper's DDIM schedule: training steps 0 to 999, evenly respaced.

    Args:
        test_set: name of the weights, see TEST_SETS.
        steps: number of DDIM steps.

    Attributes:
        shape: of a state, (C, H, W).
        sigmas: noise level of each step, and the final 0, as in k-diffusion.
        calls, seconds: of the network so far; a batch counts as one call per image.
    """

    def __init__(self, test_set: str, steps: int = 25) -> None:
        file, options = TEST_SETS[test_set]
        self.net = HandUNet(**options).eval()
        self.net.load_state_dict(load_file(file))
        self.test_set, self.latent = test_set, test_set == "latent"
        self.shape = (CHANNELS, SIDE // DOWNSCALE, SIDE // DOWNSCALE) if self.latent else (3, SIDE, SIDE)
        abar = alphas_cumprod(self.latent).double()
        self.timesteps = np.linspace(0, STEPS - 1, steps).round().astype(int)[::-1].tolist()
        levels = ((1 - abar) / abar).sqrt().tolist()
        self.schedule = DiscreteSchedule(tuple(levels))
        self.sigmas = [levels[t] for t in self.timesteps] + [0.0]
        self.calls, self.seconds = 0, 0.0

    def start(self, seeds: list[int]) -> Tensor:
        """Pure noise, one seed per image, divided by alpha as in k-diffusion."""
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
        """One deterministic DDIM step."""
        return denoised + (x - denoised) * (self.sigmas[step + 1] / self.sigmas[step])

    def decode(self, clean: Tensor) -> Tensor:
        """Decodes clean states [B,C,H,W] to RGB images [B,3,64,64], about -1 to 1."""
        if not self.latent or not len(clean):
            return clean if not self.latent else clean.new_zeros(0, 3, SIDE, SIDE)
        autoencoder, scale = _autoencoder()
        return autoencoder.decode(clean / scale)

    def run_schedule(self, detection: DetectionSettings) -> Schedule:
        """The noise levels of a run, with its window."""
        return Schedule.of([edm_level(s) for s in self.sigmas], detection, self.schedule.percent_to_sigma)

    def watched(self, detection: DetectionSettings) -> range:
        """The steps between T_d and T_c."""
        start, end = (self.schedule.percent_to_sigma(p) for p in (detection.start_percent, detection.end_percent))
        inside = [i for i, s in enumerate(self.sigmas[:-1]) if end < s <= start]
        return range(inside[0], inside[-1] + 1)


@dataclass(frozen=True)
class Recording:
    """States and predictions of an uncorrected run, [steps][B,C,H,W], and its images [B,3,64,64]."""

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
        corrected: bool [B], which images it changed.
        calls: model calls in addition to the recorded run, counted per image.
        seconds: spent in detection and correction, without the model.
    """

    images: NDArray[np.uint8]
    masks: BoolMap
    corrected: NDArray[np.bool_]
    calls: int
    seconds: float


@torch.inference_mode()
def encode(sampler: HandSampler, images: NDArray[np.uint8]) -> Tensor:
    """Encodes images uint8 [B,64,64,3] to clean states [B,C,H,W] of the sampler's test set."""
    rgb = torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1
    if not sampler.latent:
        return rgb
    autoencoder, scale = _autoencoder()
    return torch.cat([autoencoder.encode(part) * scale for part in rgb.split(64)])


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Images [B,3,H,W] in -1 to 1 as uint8 [B,H,W,3]."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).numpy()


@torch.inference_mode()
def record(sampler: HandSampler, seeds: list[int]) -> Recording:
    """Samples without corrections; each image shows the digit ``seed % 10``."""
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
    find: FindMasks | None = None,
    on_state: Callable[[Tensor], object] | None = None,
    learned: Learned | None = None,
) -> Outcome:
    """Replays a recorded run, and samples on its own from where a correction changes something.

    Args:
        sampler: of the test set.
        run: recorded by it.
        detection: how to find artifacts.
        correction: what to do about them.
        find: finds the masks in predictions [N,C,H,W] in place of ASCED's detector.
        on_state: called with the state at the start of each step, after any correction.
        learned: a taught detector, for mode ``learned``.
    """
    schedule = sampler.run_schedule(detection)
    trajectory = Trajectory(
        schedule, Watcher(detection, find=find, learned=learned), Corrector(correction, items=run.seeds)
    )
    steering = Steering(correction.method, detection, schedule.window, find=find) if correction.steers else None
    calls, own, clock = sampler.calls, 0.0, time.perf_counter
    x, rows = run.states[0], torch.zeros(len(run.seeds), dtype=torch.bool)  # rows that left the recording
    for step in range(len(sampler.timesteps)):
        denoised = run.predictions[step].clone()
        x = torch.where(rows.view(-1, 1, 1, 1), x, run.states[step])
        if rows.any():
            denoised[rows] = sampler.denoise(x[rows], step, run.labels[rows])
        begin, model = clock(), sampler.seconds
        steered = denoised if steering is None else steering(step, denoised)
        trajectory.observe(step, x, denoised)
        decision = trajectory.decide() if trajectory.is_due(step) else None
        if decision is not None and decision.acts:
            acting = torch.tensor(decision.acting(len(x)))
            x = trajectory.correct(decision, x, denoised, predict=_predictor(sampler, run.labels, acting))
        own += clock() - begin - (sampler.seconds - model)  # a detector may call the model
        if decision is not None and decision.acts:
            steered = steered.clone()
            steered[acting] = sampler.denoise(x[acting], step, run.labels[acting])
            trajectory.observe(step, x, steered)
            rows = rows | acting
        if on_state is not None:
            on_state(x)
        rows = rows | (steered != denoised).flatten(1).any(1)
        x = sampler.next_state(x, steered, step)
        begin = clock()
        if trajectory.is_due_early(step):
            x = torch.where(rows.view(-1, 1, 1, 1), x, run.states[step + 1])
            decision = trajectory.decide()
            x, rows = trajectory.correct(decision, x), rows | decision.places(x).flatten()
        own += clock() - begin
    images = run.images.clone()
    images[rows] = sampler.decode(x[rows])
    masks = np.stack([d.mask for d in trajectory.detections])
    return Outcome(to_uint8(images), masks, rows.numpy(), sampler.calls - calls, own)


def _predictor(sampler: HandSampler, labels: Tensor, acting: Tensor) -> Callable[[Tensor, int], Tensor]:
    """The model for the images that are corrected, bool [B]; the others keep their state, which nothing looks at."""

    def predict(x: Tensor, step: int) -> Tensor:
        denoised = x.clone()
        denoised[acting] = sampler.denoise(x[acting], step, labels[acting])
        return denoised

    return predict
