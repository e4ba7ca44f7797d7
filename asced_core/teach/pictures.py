"""Material from pictures that are as they should be: what the model predicts when it is shown them, noised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..noise import NoiseLevel, Predict
from ..window import Window
from .grown import FaultSources, middle_of, stacked
from .marks import contrast, ellipse
from .material import Material


def show_pictures(
    predict: Predict,
    clean: Tensor,
    levels: Sequence[NoiseLevel],
    window: Window,
    rng: np.random.Generator,
    faults: int = 2,
) -> Material:
    """Predictions of noised pictures, and of the same pictures with a part of each replaced.

    Every picture keeps its noise through the window, as a run does. A replaced part is there from the middle or from
    the end of the window on.

    Args:
        predict: the model; called with whole batches.
        clean: the pictures as clean states [B,C,H,W].
        levels: noise level of each step.
        window: the watched steps; its decision is not None.
        rng: draws kinds, places, births and noise.
        faults: how many times each picture is repeated with a fault.
    """
    last = window.decision
    assert last is not None
    seen = (window.first, middle_of(window, last), last)
    count, size = len(clean), (clean.shape[2], clean.shape[3])
    about = contrast(clean)
    noise = torch.from_numpy(rng.standard_normal(tuple(clean.shape), np.float32)).to(clean.device)

    def shown(pictures: Sequence[Tensor]) -> Tensor:
        made = {}
        for step, picture in zip(seen, pictures, strict=True):
            state = levels[step].alpha * picture + levels[step].sigma * noise
            made[step] = predict(state.to(clean.dtype), step)
        return stacked(made, seen)

    runs = shown([clean] * len(seen))
    grown, kinds = [], []
    for _ in range(faults):
        sources = FaultSources(count, size, rng)
        places = torch.stack([ellipse(own, rng) for own in about]).to(clean.device)[:, None]
        late = torch.from_numpy(rng.random(count) < 0.5).to(clean.device).view(-1, 1, 1, 1)
        middle = torch.where(places & ~late, sources(clean), clean)
        grown.append(shown([clean, middle, torch.where(places, sources(clean), clean)]))
        kinds.append(sources.kinds)
    return Material(runs, torch.cat(grown), torch.arange(count).repeat(faults), torch.cat(kinds))
