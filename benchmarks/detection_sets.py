"""The detector's test sets: runs with known ground truth, in two image domains, split into halves by seed."""

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

from asced_core import DetectionSettings, DiscreteSchedule
from asced_core.maps import BoolMap
from benchmarks.hands import HandSampler, Recording, record, to_uint8
from benchmarks.judges import stray_components
from benchmarks.table2 import plant
from benchmarks.train_fashion import FILE, SIDE, make_network
from demo.hand_unet import STEPS, alphas_cumprod

FIRST = 30000  # first seed; tables 1 and 2 use different ones
HALVES = ("choosing", "reporting")
BATCH = 32


class ClothesSampler(HandSampler):
    """Clothes in 32x32 gray pixels on the same schedule; each image shows the kind ``seed % 10``."""

    def __init__(self, steps: int = 25) -> None:
        self.net = make_network().eval()
        self.net.load_state_dict(load_file(FILE))
        self.test_set, self.latent, self.shape = "clothes", False, (1, SIDE, SIDE)
        abar = alphas_cumprod().double()
        self.timesteps = np.linspace(0, STEPS - 1, steps).round().astype(int)[::-1].tolist()
        levels = ((1 - abar) / abar).sqrt().tolist()
        self.schedule = DiscreteSchedule(tuple(levels))
        self.sigmas = [levels[t] for t in self.timesteps] + [0.0]
        self.calls, self.seconds = 0, 0.0


def seeds_of(half: str, images: int) -> list[int]:
    """Seeds of one half, which alternate in blocks of ten, so that every digit occurs equally often."""
    odd = HALVES.index(half)
    return [FIRST + 20 * (i // 10) + 10 * odd + i % 10 for i in range(images)]


def recordings(sampler: HandSampler, seeds: list[int]) -> Iterator[Recording]:
    """Uncorrected runs, one batch at a time."""
    for start in range(0, len(seeds), BATCH):
        yield record(sampler, seeds[start : start + BATCH])


@dataclass(frozen=True)
class Truth:
    """Frames of the window [N,B,C,H,W] and where their artifacts are: masks bool [B,H,W]."""

    frames: Tensor
    masks: BoolMap


def window(sampler: HandSampler, run: Recording, settings: DetectionSettings) -> Tensor:
    """The predictions between T_d and T_c, [N,B,C,H,W]."""
    return torch.stack([run.predictions[step] for step in sampler.watched(settings)])


def boxed(boxes: list[list[tuple[int, int, int, int]]], side: int) -> BoolMap:
    """Masks of the cells inside each image's boxes."""
    masks = np.zeros((len(boxes), side, side), bool)
    for mask, inside in zip(masks, boxes, strict=True):
        for left, top, right, bottom in inside:
            mask[top:bottom, left:right] = True
    return masks


def strays(run: Recording) -> list[list[tuple[int, int, int, int]]]:
    """Boxes of the stray pieces, those apart from the hand, in the final images of a run."""
    return [stray_components(image) for image in to_uint8(run.images)]


def with_patches(frames: Tensor, seeds: list[int], contrast: float, radius: int, lasting: bool) -> Truth:
    """Plants a patch in the second half of a window: half of it in one step, all of it in the next.

    Args:
        frames: [N,B,C,H,W].
        seeds: of the images.
        contrast, radius: see table2.plant; radius in pixels of a 64-pixel image.
        lasting: False removes the patch again before T_c, over the two steps before the last two.
    """
    count, _, channels, height, _ = frames.shape
    patches = [plant(seed, contrast, radius) for seed in seeds]
    step = 64 // height
    masks = np.stack([mask[::step, ::step] for mask, _ in patches])
    blobs = torch.stack([blob[:channels, ::step, ::step] for _, blob in patches])
    onset = count // 2 if lasting else max(1, count // 2 - 2)
    strength = [min(1.0, max(0, i - onset + 1) / 2) for i in range(count)]
    if not lasting:
        strength = [s * min(1.0, max(0, count - 2 - i) / 2) for i, s in enumerate(strength)]
    planted = frames + torch.tensor(strength).view(-1, 1, 1, 1, 1) * blobs
    return Truth(planted, masks)


def one_signed(seeds: list[int], contrast: float, radius: int) -> NDArray[np.bool_]:
    """Which patches are purely lighter or darker: they have the same sign in every channel."""
    return np.array([len(np.unique(np.sign(plant(s, contrast, radius)[1].sum((1, 2)).numpy()))) == 1 for s in seeds])


def judged(half: str) -> tuple[list[int], list[list[tuple[int, int, int, int]]]]:
    """Seeds of one half that were judged by eye, and the judge's boxes; clean images have none."""
    verdicts = json.loads((Path(__file__).parent / "judged.json").read_text(encoding="utf-8"))
    boxes: dict[int, list[tuple[int, int, int, int]]] = {e["seed"]: [tuple(e["box"])] for e in verdicts["artifact"]}
    boxes |= {seed: [] for seed in verdicts["clean"]}
    kept = {seed: box for seed, box in boxes.items() if (seed // 10) % 2 == HALVES.index(half)}
    return list(kept), list(kept.values())
