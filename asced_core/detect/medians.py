"""Exact medians on any device, without a device sync."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAMPLE = 1024  # values that the first guess is made from
MARGIN = 3.0  # standard deviations by which a guess may be wrong before the slow way is taken


def median(values: Tensor) -> Tensor:
    """Median over the last axis, the mean of the two middle values where their number is even, [..., N] -> [...].

    Equal to ``numpy.median``.
    """
    return _way(values)(values)


def median_and_mad(values: Tensor) -> tuple[Tensor, Tensor]:
    """Median over the last axis, and the median absolute deviation from it, of values [..., N].

    The values are overwritten.
    """
    select = _way(values)
    middle = select(values)
    return middle, select(values.sub_(middle[..., None]).abs_())


def _way(values: Tensor) -> Callable[[Tensor], Tensor]:
    return _median_by_sample if values.device.type == "cpu" else _median_by_counting


def _median_by_sample(values: Tensor) -> Tensor:
    """By numpy, which selects one value many times as fast as torch on a CPU."""
    rows = values.detach().numpy()
    medians = [_median_of(row) for row in rows.reshape(-1, rows.shape[-1])]
    return torch.from_numpy(np.array(medians, rows.dtype).reshape(rows.shape[:-1]))


def _median_of(values: NDArray[Any]) -> Any:
    middle = len(values) // 2
    near, below = _near(values, middle)
    if not 0 < middle - below < len(near):  # the sample has misled us
        near, below = values.copy(), 0
    near.partition(middle - below)
    upper = near[middle - below]
    # the other middle value is the largest below; a second selected place would cost several times as much
    return upper if len(values) % 2 else (near[: middle - below].max() + upper) / 2


def _near(values: NDArray[Any], place: int) -> tuple[NDArray[Any], int]:
    """A copy of the few values about a place in sorted order, and how many values are below them.

    A sample says where they are, and one count corrects it (after Floyd and Rivest 1975). Only comparisons see all of
    the values: ``numpy.partition`` takes ten times as long on some processors with AVX-512 as on others.
    """
    sample = np.sort(values[:: (len(values) // SAMPLE) | 1])  # odd: does not stay in a few columns of an image
    middle = len(sample) // 2
    missing = (place - np.count_nonzero(values < sample[middle])) * len(sample) / len(values)
    margin = MARGIN * math.sqrt(1 + abs(missing))
    first, last = (min(max(0, int(middle + missing + by)), len(sample) - 1) for by in (-margin, margin))
    low, high = sample[first], sample[last]
    from_low = values >= low
    below = len(values) - int(np.count_nonzero(from_low))
    from_low &= values <= high
    return values[np.flatnonzero(from_low)], below


def _median_by_counting(values: Tensor) -> Tensor:
    """Torch gives the lower middle value; the upper one follows from a count, without a device sync."""
    lower = values.median(dim=-1, keepdim=True).values
    count = values.shape[-1]
    if count % 2:
        return lower.squeeze(-1)
    above = values.masked_fill(values <= lower, math.inf).amin(dim=-1, keepdim=True)
    enough = (values <= lower).sum(dim=-1, keepdim=True) > count // 2
    return torch.where(enough, lower, (lower + above) / 2).squeeze(-1)
