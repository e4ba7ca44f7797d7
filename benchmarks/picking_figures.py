"""The figures of picking.py: how well a signal ranks the images of one class, and what the kept ones are like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.picking_runs import Runs, real_features
from benchmarks.picking_signals import Chooser, at_random
from benchmarks.quality import Figure, FrechetTo, figure, recall_flags
from benchmarks.ranking import Values, members

PARTITIONS = 24  # random partitions of each class into groups; figures are means over them
KEPT_RESAMPLES = 100  # of the bootstrap of kept images, which is slower
RECALLS = 6  # partitions of which recall is taken, which is slow
NEAREST = 5  # neighbors of coverage
Groups = NDArray[np.int64]


def within(runs: Runs, chooser: Chooser) -> Values:
    """A signal's values [N], each class taken as one batch."""
    out = np.zeros(len(runs.labels))
    for own in members(runs.labels):
        out[own] = chooser(own[None])[0]
    return out


def partition(classes: list[NDArray[np.int64]], size: int, rng: np.random.Generator) -> Groups:
    """Random groups [G,size], each from one class; what does not fill a group is left out."""
    rows = []
    for own in classes:
        shuffled = rng.permutation(own)
        count = len(own) // size
        rows.append(shuffled[: count * size].reshape(count, size))
    return np.concatenate(rows)


def pick(chooser: Chooser, groups: Groups) -> NDArray[np.int64]:
    """The draft of each group with the lowest value, [G]."""
    return groups[np.arange(len(groups)), chooser(groups).argmin(1)]


@cache
def distance_to_real(bed: str) -> FrechetTo:
    """FID to the photographs of a test set."""
    return FrechetTo(real_features(bed))


@cache
def _neighborhoods(bed: str) -> tuple[Values, Values]:
    """Squared norm of each photograph's features, and squared distance to its NEAREST-th neighbor."""
    real = real_features(bed)
    norms = (real**2).sum(1)
    distances = norms[:, None] + norms - 2 * real @ real.T
    return norms, np.partition(distances, NEAREST, 1)[:, NEAREST]


def coverage(bed: str, features: Values) -> float:
    """Share of photographs with an image in their neighborhood (Naeem et al. 2020, arXiv 2002.09797)."""
    norms, radii = _neighborhoods(bed)
    distances = norms[:, None] + (features**2).sum(1) - 2 * real_features(bed) @ features.T
    return float((distances <= radii[:, None]).any(1).mean())


def kept(runs: Runs, named: dict[str, Chooser], size: int) -> dict[str, dict[str, Any]]:
    """What the best drafts of groups of a size are like, by chooser, beside a random draft of each group.

    Rates of bad outcomes, FID relative to that of the random drafts, and recall and coverage minus theirs. Empty if no
    class fills two groups.
    """
    classes = members(runs.labels)
    if min(map(len, classes)) < 2 * size:
        return {}
    everyone = {"random": at_random, **named}
    rng = np.random.default_rng(0)
    parts = [partition(classes, size, rng) for _ in range(PARTITIONS)]
    picks = {name: [pick(chooser, groups) for groups in parts] for name, chooser in everyone.items()}
    drawn: dict[str, list[dict[str, float]]] = {name: [] for name in everyone}
    for _ in range(KEPT_RESAMPLES):
        groups = partition([rng.choice(own, len(own)) for own in classes], size, rng)
        base = distance_to_real(runs.bed)(runs.features[pick(at_random, groups)])
        for name, chooser in everyone.items():
            drawn[name].append(_figures(runs, pick(chooser, groups), base))
    bases = [distance_to_real(runs.bed)(runs.features[own]) for own in picks["random"]]
    out: dict[str, dict[str, Any]] = {}
    for name, own in picks.items():
        each = [_figures(runs, chosen, base) for chosen, base in zip(own, bases, strict=True)]
        out[name] = {
            key: asdict(_shifted(float(np.mean([e[key] for e in each])), [d[key] for d in drawn[name]]))
            for key in each[0]
        }
        out[name] |= dict(_variety(runs, own, picks["random"]))
    return out


def _figures(runs: Runs, chosen: NDArray[np.int64], base: float) -> dict[str, float]:
    rates = {outcome: float(bad[chosen].mean()) for outcome, bad in runs.verdicts.items()}
    return {**rates, "fid_ratio": distance_to_real(runs.bed)(runs.features[chosen]) / base}


def _shifted(value: float, drawn: list[float]) -> Figure:
    """The interval of a bootstrap, moved to the value: resampled groups hold some images twice."""
    return figure(value, [d - float(np.mean(drawn)) + value for d in drawn])


def _variety(runs: Runs, own: list[Groups], random: list[Groups]) -> Iterator[tuple[str, float]]:
    measures: dict[str, Callable[[Groups], float]] = {
        "recall": lambda rows: float(recall_flags(runs.real, runs.features[rows]).mean()),
        "coverage": lambda rows: coverage(runs.bed, runs.features[rows]),
    }
    for name, measure in measures.items():
        yield name, round(float(np.mean([measure(rows) for rows in own[:RECALLS]])), 3)
        yield f"{name}_random", round(float(np.mean([measure(rows) for rows in random[:RECALLS]])), 3)
