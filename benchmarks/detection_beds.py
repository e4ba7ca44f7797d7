"""What the detector is tried on: runs with a known truth, of two image domains, split into halves by seed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from asced_core.maps import BoolMap
from asced_core.noise import DiscreteSchedule
from benchmarks.hands import HandSampler, Recording, record, to_uint8
from benchmarks.judges import stray_components
from benchmarks.table2 import plant
from benchmarks.train_fashion import FILE, SIDE, make_network
from demo.hand_unet import STEPS, alphas_cumprod

FIRST = 30000  # seeds that no other benchmark has
HALVES = ("choosing", "reporting")
BATCH = 32


class ClothesSampler(HandSampler):
    """Clothes of 32x32 grey pixels on the same schedule; a seed shows the kind ``seed % 10``."""

    def __init__(self, steps: int = 25) -> None:
        self.net = make_network().eval()
        self.net.load_state_dict(load_file(FILE))
        self.bed, self.latent, self.shape = "clothes", False, (1, SIDE, SIDE)
        abar = alphas_cumprod().double()
        self.timesteps = np.linspace(0, STEPS - 1, steps).round().astype(int)[::-1].tolist()
        every = ((1 - abar) / abar).sqrt().tolist()
        self.schedule = DiscreteSchedule(tuple(every))
        self.sigmas = [every[t] for t in self.timesteps] + [0.0]
        self.calls, self.seconds = 0, 0.0


def seeds_of(half: str, images: int) -> list[int]:
    """Tens of seeds, all ten digits in each, by turns of the two halves."""
    odd = HALVES.index(half)
    return [FIRST + 20 * (i // 10) + 10 * odd + i % 10 for i in range(images)]


def recordings(sampler: HandSampler, seeds: list[int]) -> Iterator[Recording]:
    """Runs as usual, a batch at a time."""
    for start in range(0, len(seeds), BATCH):
        yield record(sampler, seeds[start : start + BATCH])


@dataclass(frozen=True)
class Truth:
    """Frames of the window [N,B,C,H,W] and where an artifact is, bool [B,H,W], or a box each."""

    frames: Tensor
    masks: BoolMap
    boxes: list[list[tuple[int, int, int, int]]]


def window(sampler: HandSampler, run: Recording, settings: object) -> Tensor:
    """The predictions between T_d and T_c, [N,B,C,H,W]."""
    return torch.stack([run.predictions[step] for step in sampler.watched(settings)])  # type: ignore[arg-type]


def boxed(boxes: list[list[tuple[int, int, int, int]]], side: int) -> BoolMap:
    """The cells inside of each image's boxes."""
    masks = np.zeros((len(boxes), side, side), bool)
    for mask, inside in zip(masks, boxes, strict=True):
        for left, top, right, bottom in inside:
            mask[top:bottom, left:right] = True
    return masks


def strays(run: Recording) -> list[list[tuple[int, int, int, int]]]:
    """Pieces apart from the hand in the final images of a run."""
    return [stray_components(image) for image in to_uint8(run.images)]


def with_patches(frames: Tensor, seeds: list[int], contrast: float, radius: int, lasting: bool) -> Truth:
    """Plants a patch into the second half of a window, half of it at once; one that does not last fades before T_c.

    Args:
        frames: [N,B,C,H,W].
        seeds: of its images.
        contrast, radius: see table2.plant, in pixels of 64.
        lasting: False takes the patch away again, over the two steps before the last two.
    """
    count, _, channels, height, _ = frames.shape
    patches = [plant(seed, contrast, radius) for seed in seeds]
    step = 64 // height
    masks = np.stack([mask[::step, ::step] for mask, _ in patches])
    blobs = torch.stack([blob[:channels, ::step, ::step] for _, blob in patches])
    born = count // 2 if lasting else max(1, count // 2 - 2)
    strength = [min(1.0, max(0, i - born + 1) / 2) for i in range(count)]
    if not lasting:
        strength = [s * min(1.0, max(0, count - 2 - i) / 2) for i, s in enumerate(strength)]
    planted = frames + torch.tensor(strength).view(-1, 1, 1, 1, 1) * blobs
    return Truth(planted, masks, [[] for _ in seeds])


def one_signed(seeds: list[int], contrast: float, radius: int) -> NDArray[np.bool_]:
    """Patches that are lighter or darker alone: the same sign in all channels."""
    return np.array([len(np.unique(np.sign(plant(s, contrast, radius)[1].sum((1, 2)).numpy()))) == 1 for s in seeds])


def judged(half: str) -> tuple[list[int], list[list[tuple[int, int, int, int]]]]:
    """Seeds judged by eye, and the judge's box, none for clean ones."""
    verdicts = json.loads((Path(__file__).parent / "judged.json").read_text(encoding="utf-8"))
    boxes: dict[int, list[tuple[int, int, int, int]]] = {e["seed"]: [tuple(e["box"])] for e in verdicts["artifact"]}
    boxes |= {seed: [] for seed in verdicts["clean"]}
    kept = {seed: box for seed, box in boxes.items() if (seed // 10) % 2 == HALVES.index(half)}
    return list(kept), list(kept.values())
