"""How likely a mark is right, given how strong it is.

Learned from marks whose truth is known: sorted by strength, and averaged wherever a stronger mark would be less likely
right than a weaker one (isotonic regression, Ayer et al. 1955).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FEWEST = 10  # marks that a level of certainty is averaged over


@dataclass(frozen=True)
class Certainty:
    """The share of right marks by strength.

    Attributes:
        strengths: increasing; between them we interpolate, outside the nearest one counts.
        shares: of marks that are right, 0 to 1, never decreasing.
        unit: strength of a mark with score 1.
    """

    strengths: tuple[float, ...]
    shares: tuple[float, ...]
    unit: float = 1.0

    def __call__(self, score: float) -> float:
        """The share for a region's score, see Region."""
        return float(self.of_all(np.array([score]))[0])

    def of_all(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The shares for the scores of regions."""
        return np.interp(scores * self.unit, self.strengths, self.shares)

    def at(self, unit: float) -> Certainty:
        """The same for scores in another unit."""
        return replace(self, unit=unit)

    def scaled(self, factor: float) -> Certainty:
        """The same with every share times a factor, 0 to 1."""
        return replace(self, shares=tuple(round(share * factor, 4) for share in self.shares))

    @classmethod
    def of(cls, strengths: Sequence[float], right: Sequence[bool], fewest: int = FEWEST) -> Certainty | None:
        """From marks whose truth is known; None if there are fewer than ``fewest``.

        Args:
            strengths: of the marks.
            right: whether each is right.
            fewest: marks that a level of certainty is averaged over.
        """
        if len(strengths) < fewest:
            return None
        order = np.argsort(strengths, kind="stable")
        sorted_strengths, truth = np.asarray(strengths, float)[order], np.asarray(right, float)[order]
        bounds = np.arange(0, len(order) // fewest + 1) * fewest
        bounds[-1] = len(order)  # the rest joins the last group
        spans = list(itertools.pairwise(bounds.tolist()))
        means = [(float(sorted_strengths[a:b].mean()), float(truth[a:b].mean()), b - a) for a, b in spans]
        pooled: list[tuple[float, float, int]] = []
        for group in means:
            pooled.append(group)
            while len(pooled) > 1 and pooled[-2][1] > pooled[-1][1]:
                (s1, r1, n1), (s2, r2, n2) = pooled[-2:]
                n = n1 + n2
                pooled[-2:] = [((s1 * n1 + s2 * n2) / n, (r1 * n1 + r2 * n2) / n, n)]
        return cls(tuple(round(s, 4) for s, _, _ in pooled), tuple(round(r, 4) for _, r, _ in pooled))
