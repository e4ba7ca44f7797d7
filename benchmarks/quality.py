"""The figures of Table 1: distances between sets of features, and confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

NEIGHBORS = 3  # k of improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991)
RESAMPLES = 200
Features = NDArray[np.floating]


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def figure(value: float, drawn: list[float]) -> Figure:
    """A value with the percentile interval of its bootstrap samples."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(round(float(value), 4), round(float(low), 4), round(float(high), 4))


def frechet(a: Features, b: Features) -> float:
    """FID of two sets of features [N,D] (Heusel et al. 2017, arXiv 1706.08500)."""
    one, two = (fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b))
    return float(fid_statistics_to_metric(one, two, False)[KEY_METRIC_FID])


class FrechetTo:
    """FID of many sets to one fixed set, for a bootstrap.

    Uses ``tr sqrt(A B) = tr sqrt(sqrt(A) B sqrt(A))``, a symmetric eigenproblem. Much faster than ``frechet`` and equal
    to it; a test compares the two.
    """

    def __init__(self, real: Features) -> None:
        self._mean, covariance = real.mean(0), np.cov(real, rowvar=False)
        values, vectors = np.linalg.eigh(covariance)
        self._root = vectors * np.sqrt(values.clip(0)) @ vectors.T
        self._trace = float(np.trace(covariance))

    def __call__(self, made: Features) -> float:
        covariance = np.cov(made, rowvar=False)
        mixed = np.linalg.eigvalsh(self._root @ covariance @ self._root)
        change = self._mean - made.mean(0)
        return float(change @ change + self._trace + np.trace(covariance) - 2 * np.sqrt(mixed.clip(0)).sum())


def _inside(points: Features, manifold: Features) -> NDArray[np.bool_]:
    """Which points lie within the k-th neighbor distance of any point of the manifold."""
    radii = NearestNeighbors(n_neighbors=NEIGHBORS + 1).fit(manifold).kneighbors(manifold)[0][:, -1]
    out = np.zeros(len(points), bool)
    squares = (manifold**2).sum(1)
    for i in range(0, len(points), 512):
        part = points[i : i + 512]
        distance = (part**2).sum(1)[:, None] + squares - 2 * part @ manifold.T
        out[i : i + 512] = (distance <= (radii**2)[None]).any(1)
    return out


def precision_flags(real: Features, made: Features) -> NDArray[np.bool_]:
    """For each generated image [N,D], whether it lies on the real manifold; the mean is improved precision."""
    return _inside(made, real)


def recall_flags(real: Features, made: Features) -> NDArray[np.bool_]:
    """For each real image, whether it lies on the generated manifold; the mean is improved recall."""
    return _inside(real, made)


def compare(real: Features, made: Mapping[str, Features], original: str) -> dict[str, dict[str, Figure]]:
    """FID, its ratio to the original's FID, precision and recall, by method.

    The bootstrap resamples seeds, with the same picks for every method, so the interval of the ratio is paired. For
    recall it resamples the real images.
    """
    count = len(made[original])
    rng = np.random.default_rng(0)
    picks = [rng.integers(count, size=count) for _ in range(RESAMPLES)]
    reals = [rng.integers(len(real), size=len(real)) for _ in range(RESAMPLES)]
    base, distance = frechet(real, made[original]), FrechetTo(real)
    drawn_base = [distance(made[original][pick]) for pick in picks]
    out = {}
    for name, features in made.items():
        fid = frechet(real, features)
        drawn = drawn_base if name == original else [distance(features[pick]) for pick in picks]
        inside, covered = precision_flags(real, features), recall_flags(real, features)
        out[name] = {
            # resampling repeats images, which raises FID, so the interval is shifted to the value
            "fid": figure(fid, [d - float(np.mean(drawn)) + fid for d in drawn]),
            "fid_ratio": figure(fid / base, [a / b for a, b in zip(drawn, drawn_base, strict=True)]),
            "precision": figure(inside.mean(), [inside[p].mean() for p in picks]),
            "recall": figure(covered.mean(), [covered[p].mean() for p in reals]),
        }
    return out


def rate(flags: NDArray[np.bool_]) -> Figure:
    """Share of true flags, with its interval."""
    rng = np.random.default_rng(0)
    return figure(flags.mean(), [rng.choice(flags, len(flags)).mean() for _ in range(RESAMPLES)])


def paired_change(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Figure:
    """Change in the share of true flags; the bootstrap resamples pairs."""
    rng = np.random.default_rng(0)
    change = after.astype(float) - before
    return figure(change.mean(), [rng.choice(change, len(change)).mean() for _ in range(RESAMPLES)])
