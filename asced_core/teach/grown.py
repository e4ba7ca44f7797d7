"""Faults that a model grows itself: a part of the state is corrupted in mid-window, and the run goes on to T_c.

Pasted faults have a seam, which a detector learns first; grown ones have none. A relative inside of a transformer:
ArtiAgent (Park et al. 2026, arXiv 2602.20951).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..noise import NoiseLevel, Predict, next_state
from ..window import Window
from .marks import contrast, ellipse
from .material import KINDS, Material

LATEST = 0.6  # share of the window after which no fault is born
FAR = (0.15, 0.35)  # of the side, how far a source is shifted


def middle_of(window: Window, last: int) -> int:
    """The step whose prediction is the middle one of a window that is seen up to a step."""
    return window.first + (last - window.first) // 2


def grow_faults(
    predict: Predict,
    x: Tensor,
    levels: Sequence[NoiseLevel],
    window: Window,
    rng: np.random.Generator,
    faults: int = 2,
    kept: Sequence[int] | None = None,
) -> Material:
    """Samples a batch up to T_c by DDIM, and again from the window on with a fault in each image.

    Args:
        predict: the model; called with whole batches.
        x: starting states [B,C,H,W], B of 2 or more for pieces of another run.
        levels: noise level of each step.
        window: the watched steps; its decision is not None.
        rng: draws kinds, places, births and noise.
        faults: how many times each run is repeated with a fault.
        kept: places of the batch to keep; None keeps all.
    """
    last = window.decision
    assert last is not None
    steps = range(window.first, last + 1)
    seen = (window.first, middle_of(window, last), last)
    for step in range(window.first):
        x = next_state(x, predict(x, step), levels[step], levels[step + 1])
    begin, clean = x, {}
    for step in steps:
        clean[step] = predict(x, step)
        x = next_state(x, clean[step], levels[step], levels[step + 1])
    about = contrast(clean[last])
    grown, kinds = [], []
    for _ in range(faults):
        born = rng.integers(window.first, window.first + max(1, round(LATEST * len(steps))), size=len(x))
        places = torch.stack([ellipse(own, rng) for own in about]).to(x.device)
        sources = FaultSources(len(x), (x.shape[2], x.shape[3]), rng)
        state, made = begin, {}
        for step in steps:
            now = torch.from_numpy(born == step).to(x.device)
            if now.any():
                noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32)).to(x.device)
                other = levels[step].alpha * sources(clean[step]) + levels[step].sigma * noise
                state = torch.where((now[:, None, None] & places)[:, None], other.to(state.dtype), state)
            made[step] = predict(state, step)
            state = next_state(state, made[step], levels[step], levels[step + 1])
        grown.append(stacked(made, seen))
        kinds.append(sources.kinds)
    own = list(range(len(x))) if kept is None else list(kept)
    return Material(
        stacked(clean, seen)[own],
        torch.cat([part[own] for part in grown]),
        torch.arange(len(own)).repeat(faults),
        torch.cat([part[own] for part in kinds]),
    )


class FaultSources:
    """What a corrupted region is replaced with; fixed for one repetition of a batch.

    Every source is shifted: what is right where it was is wrong where it comes to lie.

    Args:
        count: images of the batch; a single one has no other to take a piece from.
        size: height and width of the states in cells.
        rng: draws kinds, other images and shifts.

    Attributes:
        kinds: int64 [B], one of KINDS for each image.
    """

    def __init__(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> None:
        first = 0 if count > 1 else KINDS.index("shifted")
        self.kinds = torch.from_numpy(rng.integers(first, len(KINDS), size=count))
        self._others = ((np.arange(count) + rng.integers(1, max(2, count), size=count)) % count).tolist()
        self._shifts = [_shift(size, rng) for _ in range(count)]

    def __call__(self, clean: Tensor) -> Tensor:
        """The replacements for clean images [B,C,H,W]."""
        return torch.stack([self._source(clean, place).roll(s, (1, 2)) for place, s in enumerate(self._shifts)])

    def _source(self, clean: Tensor, place: int) -> Tensor:
        own, other = clean[place], clean[self._others[place]]
        kind = KINDS[int(self.kinds[place])]
        if kind == "mirrored":
            return own.flip(2)
        return {"another": other, "mixed": (own + other) / 2, "shifted": own}[kind]


def _shift(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, ...]:
    """Rows and columns, one of FAR in a random direction."""
    angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(*FAR)
    return tuple(round(far * side * part) for side, part in zip(size, (math.sin(angle), math.cos(angle)), strict=True))


def stacked(predictions: dict[int, Tensor], seen: Sequence[int]) -> Tensor:
    """The predictions of some steps, float16 [B,S,C,H,W] on the CPU."""
    return torch.stack([predictions[step] for step in seen], 1).half().cpu()
