"""How well a score ranks the images of one class, bad before good; no image is compared with one of another class.

The class alone may tell the verdict: a model fails at some of its classes more often (docs/findings.md).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks.quality import figure
from demo.hand_unet import CLASSES

RESAMPLES = 200  # of the bootstrap over images
Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


def members(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The images of each class."""
    return [np.flatnonzero(labels == digit) for digit in range(CLASSES)]


def auroc(values: Values, bad: Flags, classes: list[NDArray[np.int64]]) -> float:
    """The chance that a bad image has the higher value of two from one class; classes count by their pairs."""
    won = pairs = 0.0
    for own in classes:
        high, low = values[own][bad[own]], values[own][~bad[own]]
        won += (high[:, None] > low).sum() + 0.5 * (high[:, None] == low).sum()
        pairs += len(high) * len(low)
    return won / pairs if pairs else float("nan")


def ranking(values: Values, bad: Flags, labels: NDArray[np.int64]) -> dict[str, Any]:
    """AUROC within classes with its interval, and average precision within classes (weighted by bad images)."""
    classes, rng = members(labels), np.random.default_rng(0)
    drawn = [auroc(values, bad, [rng.choice(own, len(own)) for own in classes if len(own)]) for _ in range(RESAMPLES)]
    mixed = [own for own in classes if bad[own].any()]
    precision = [average_precision_score(bad[own], values[own]) for own in mixed]
    weights = [bad[own].sum() for own in mixed]
    return {
        "auroc": asdict(figure(auroc(values, bad, classes), drawn)),
        "ap": round(float(np.average(precision, weights=weights)), 3) if mixed else None,
        "rate": round(float(bad.mean()), 3),
    }
