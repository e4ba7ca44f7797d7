"""Ranks the images of a batch by their run scores, and says in words why.

Each part is measured in standard deviations of the batch, and the result is their mean: so a part needs no unit and no
weight, and a rank means something within its batch only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..detect.run_score import RunScore

TINY = 1e-6  # less than this is rounding


@dataclass(frozen=True)
class Ranked:
    """An image's run score, relative to those of its batch.

    Attributes:
        score: its parts.
        relative: one number, higher is better and 0 is average; NaN if a part is not finite.
        words: the parts in words.
    """

    score: RunScore
    relative: float
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Values by name."""
        parts = {"sharpness": self.score.sharpness, "agreement": self.score.agreement}
        return {"relative": self.relative, **parts, "words": self.words}


def ranked(scores: Sequence[RunScore]) -> tuple[Ranked, ...]:
    """The run scores of a batch, compared with each other."""
    sharpness = np.array([score.sharpness for score in scores])
    given = [score.agreement for score in scores]
    agreement = np.array(given, float) if given and None not in given else None  # only if every image has it
    each = zip(scores, relative(sharpness, agreement), strict=True)
    return tuple(
        Ranked(score, float(number), _words(sharpness, agreement, place)) for place, (score, number) in enumerate(each)
    )


def relative(sharpness: NDArray[np.floating], agreement: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """One number for each of N images, [N]: higher is better and 0 is the mean; NaN where a part is not finite.

    Args:
        sharpness, agreement: [N], see run_score.py.
    """
    with np.errstate(invalid="ignore"):
        parts = [_standard(np.log(sharpness.astype(float)))]
    if agreement is not None:
        parts.append(_standard(agreement.astype(float)))
    return np.mean(parts, axis=0)


def best_first(batch: Sequence[Ranked]) -> list[int]:
    """Places in the batch, best first: the earlier of two equal ones, and last what could not be measured."""
    return sorted(
        range(len(batch)), key=lambda place: (math.isnan(batch[place].relative), -batch[place].relative, place)
    )


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values in standard deviations from the mean of those that are finite; NaN for the others."""
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(values), math.nan)
    middle, spread = values[known].mean(), values[known].std()
    return np.where(known, (values - middle) / max(spread, TINY), math.nan)


def _words(sharpness: NDArray[np.floating], agreement: NDArray[np.floating] | None, place: int) -> str:
    if not np.isfinite(sharpness[place]) or (agreement is not None and not np.isfinite(agreement[place])):
        return "could not be measured"
    times = np.nanmedian(sharpness) / max(sharpness[place], TINY)
    words = f"undecided: {times:.2f} times the batch's median"
    if agreement is None:
        return words
    return f"{words}; agreement with the prompt: {agreement[place]:.2f} (median {np.nanmedian(agreement):.2f})"
