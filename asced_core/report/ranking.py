"""Ranks the images of a batch by their run scores, and says in words why.

Each part is measured in standard deviations of the batch, and the parts are added: so a part needs no unit and no
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

TINY = 1e-12


@dataclass(frozen=True)
class Ranked:
    """An image's run score beside those of its batch.

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
    """The run scores of a batch beside each other; a part counts only if every image has it."""
    parts: dict[str, list[Any]] = {
        "sharpness": [score.sharpness for score in scores],
        "agreement": [score.agreement for score in scores],
    }
    known = {name: np.array(values, float) for name, values in parts.items() if None not in values}
    totals = sum((_standard(values) for values in known.values()), np.zeros(len(scores)))
    each = zip(scores, totals, strict=True)
    return tuple(Ranked(score, float(total), _words(known, place)) for place, (score, total) in enumerate(each))


def best_first(batch: Sequence[Ranked]) -> list[int]:
    """Places in the batch, best first: the earlier of two equal ones, and last what could not be measured."""
    return sorted(
        range(len(batch)), key=lambda place: (math.isnan(batch[place].relative), -batch[place].relative, place)
    )


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values in standard deviations from the mean of those that are finite; NaN for the others."""
    finite = values[np.isfinite(values)]
    spread = finite.std() if len(finite) else 0.0
    middle = finite.mean() if len(finite) else 0.0
    return np.where(np.isfinite(values), (values - middle) / max(spread, TINY), math.nan)


def _words(known: dict[str, NDArray[np.float64]], place: int) -> str:
    if any(not np.isfinite(values[place]) for values in known.values()):
        return "could not be measured"
    sharp = known["sharpness"]
    times = np.nanmedian(sharp) / max(sharp[place], TINY)
    words = [f"undecided: {times:.2f} times the batch's median"]
    if "agreement" in known:
        own = known["agreement"]
        words.append(f"agreement with the prompt: {own[place]:.2f} (median {np.nanmedian(own):.2f})")
    return "; ".join(words)
