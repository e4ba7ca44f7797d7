"""Faults pasted into the predictions of a window: pieces of other images, smears, shifts, warps and flat patches.

The idea of training on faults of one's own making: Menn, Liang and Marculescu 2025 (arXiv 2509.19589). Here they go
into the predictions of a run, where they are born in the middle of the window, as real ones are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..detect.smoothing import GaussianSmoother
from .marks import contrast, ellipse, visible

CLEAN = 0.3  # share of images left as they are
SOFT = 0.8  # share of faults with a soft edge
EDGE = (0.4, 1.6)  # sigma of a soft edge, in cells
STRENGTH = (0.35, 1.0)
GRAIN = 0.17  # of a flat patch, in standard deviations of the image


def piece_of_another(frames: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """A piece of another run, from anywhere in its image."""
    return _rolled(other, rng, 1 / 3)


def smear(frames: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """The image, blurred."""
    sigma = rng.uniform(2.5, 3.5) * max(0.5, math.sqrt(frames[0, 0].numel()) / 64)
    return GaussianSmoother((frames.shape[2], frames.shape[3]), sigma, None, frames.device)(frames)


def piece_from_elsewhere(frames: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """A piece of the same image, from another place."""
    return _rolled(frames, rng, 1 / 3)


def warp(frames: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """The image, bent out of shape."""
    _, _, height, width = frames.shape
    side = math.sqrt(height * width)
    bent = torch.from_numpy(rng.normal(0, 1, (1, 2, height, width)).astype(np.float32))
    bent = GaussianSmoother((height, width), rng.uniform(0.023, 0.063) * side, None, bent.device)(bent)
    bent = bent / bent.std().clamp(min=1e-6) * rng.uniform(0.03, 0.08) * side
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    grid = torch.stack([columns + 2 * bent[0, 0] / width, rows + 2 * bent[0, 1] / height], -1).to(frames.device)
    return F.grid_sample(
        frames, grid.expand(len(frames), -1, -1, -1), padding_mode="reflection", align_corners=True
    )  # fmt: skip


def flat_patch(frames: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """One color of the image, with a little grain."""
    _, channels, height, width = frames.shape
    row, column = rng.integers(height // 4, 3 * height // 4 + 1), rng.integers(width // 4, 3 * width // 4 + 1)
    grain = torch.from_numpy(rng.normal(0, GRAIN, (1, channels, height, width)).astype(np.float32)).to(frames.device)
    spread = frames[-1].std((1, 2))[None, :, None, None]
    return frames[:, :, row, column][:, :, None, None] + grain * spread


Fault = Callable[[Tensor, Tensor, np.random.Generator], Tensor]
FAULTS: tuple[Fault, ...] = (piece_of_another, smear, piece_from_elsewhere, warp, flat_patch)


def paste_faults(frames: Tensor, unit: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pastes a fault into most of some images.

    Args:
        frames: the first, middle and last prediction of windows, float32 [B,3,C,H,W], B of 2 or more.
        unit: standard deviation of each channel [C]; changes are measured in it.
        rng: draws kind, place, size, strength and time of birth.

    Returns:
        The frames with faults, and where they can be seen, bool [B,H,W].
    """
    out, masks = frames.clone(), torch.zeros(len(frames), *frames.shape[3:], dtype=torch.bool, device=frames.device)
    seen = contrast(frames[:, -1])
    for place, own in enumerate(frames):
        if rng.random() < CLEAN:
            continue
        other = frames[(place + rng.integers(1, len(frames))) % len(frames)]
        changed, inside = _pasted(own, other, seen[place], rng)
        mask = visible(changed[-1] - own[-1], unit) & inside
        if mask.any():
            out[place], masks[place] = changed, mask
    return out, masks


def _pasted(frames: Tensor, other: Tensor, seen: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One image [3,C,H,W] with a fault, and the cells inside of it."""
    size = (frames.shape[2], frames.shape[3])
    inside = ellipse(seen, rng).to(frames.device)
    soft = inside.float()[None, None]
    if rng.random() < SOFT:
        soft = GaussianSmoother(size, float(rng.uniform(*EDGE)), None, frames.device)(soft)
    fault = FAULTS[rng.integers(len(FAULTS))]
    strength = 1.0 if fault is warp else float(rng.uniform(*STRENGTH))
    born, slow = rng.integers(2), rng.integers(1, 3)  # after the first or the middle prediction; in one step or in two
    grown = [min(1.0, max(0.0, (t - int(born)) / int(slow))) for t in range(len(frames))]
    weight = torch.tensor(grown, device=frames.device).view(-1, 1, 1, 1) * strength * soft
    return frames * (1 - weight) + fault(frames, other, rng) * weight, soft[0, 0] > 0.5


def _rolled(frames: Tensor, rng: np.random.Generator, most: float) -> Tensor:
    """The frames, shifted by up to this share of each side."""
    height, width = frames.shape[2:]
    far = [max(1, round(most * side)) for side in (height, width)]
    return frames.roll(tuple(int(rng.integers(-n, n + 1)) for n in far), (2, 3))
