"""Faults that a model grows itself: a part of the state is corrupted in mid-window, and the run goes on to T_c.

Pasted faults have a seam, which a detector learns first; grown ones have none. A relative inside of a transformer:
ArtiAgent (Park et al. 2026, arXiv 2602.20951).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..noise import NoiseLevel, next_state
from ..window import Window
from .marks import contrast, ellipse
from .material import KINDS, Material

Predict = Callable[[Tensor, int], Tensor]  # states [B,C,H,W] and a step -> predicted clean images
LATEST = 0.6  # share of the window after which no fault is born
FAR = 1 / 4  # of the side, the farthest shift


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
    groups: Sequence[int] | None = None,
) -> Material:
    """Samples a batch up to T_c by DDIM, and again from the window on with a fault in each image.

    Args:
        predict: the model; called with whole batches.
        x: starting states [B,C,H,W], B of 2 or more for pieces of another run.
        levels: noise level of each step.
        window: the watched steps; its decision is not None.
        rng: draws kinds, places, births and noise.
        faults: how many times each run is repeated with a fault.
        groups: for each image a number; those with the same one show the same thing. None: all do.
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
        sources = FaultSources(groups or [0] * len(x), (x.shape[2], x.shape[3]), rng)
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
    return Material(
        stacked(clean, seen), torch.cat(grown), torch.arange(len(x)).repeat(faults), torch.cat(kinds)
    )  # fmt: skip


class FaultSources:
    """What a corrupted region is replaced with; fixed for one repetition of a batch.

    Args:
        groups: for each image a number; pieces of another come from one with the same number, if there is any.
        size: height and width of the states in cells.
        rng: draws kinds, other images and shifts.

    Attributes:
        kinds: int64 [B], one of KINDS for each image.
    """

    def __init__(self, groups: Sequence[int], size: tuple[int, int], rng: np.random.Generator) -> None:
        own = np.asarray(groups)
        partners = [np.flatnonzero(own == group) for group in own]
        self._others = torch.tensor(
            [int(rng.choice(all_[all_ != place])) if len(all_) > 1 else place for place, all_ in enumerate(partners)]
        )
        first = [0 if len(all_) > 1 else KINDS.index("shifted") for all_ in partners]
        self.kinds = torch.from_numpy(rng.integers(first, len(KINDS)))
        far = [max(1, round(FAR * side)) for side in size]
        self._shift = tuple(int(rng.integers(1, n + 1) * rng.choice((-1, 1))) for n in far)

    def __call__(self, clean: Tensor) -> Tensor:
        """The replacements for clean images [B,C,H,W]."""
        another = clean[self._others.to(clean.device)]
        each = (another, (clean + another) / 2, clean.roll(self._shift, (2, 3)), clean.flip(3))
        kinds = self.kinds.to(clean.device).view(-1, 1, 1, 1)
        out = each[-1]
        for kind, source in enumerate(each[:-1]):
            out = torch.where(kinds == kind, source, out)
        return out


def stacked(predictions: dict[int, Tensor], seen: Sequence[int]) -> Tensor:
    """The predictions of some steps, float16 [B,S,C,H,W] on the CPU."""
    return torch.stack([predictions[step] for step in seen], 1).half().cpu()
