"""The last exam: what a trained network finds in runs and faults that it has never seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..detect.certainty import Certainty
from ..detect.learned import FaultNet
from ..detect.regions import find_regions
from ..maps import BoolMap, dilate
from ..report.calibration import first_marks
from ..settings import BASE_SIZE, LEARNED, DetectionSettings
from .taught import Taught, TaughtFacts
from .training import Training, average_precision

SETTINGS = DetectionSettings(mode=LEARNED, base_size=BASE_SIZE)
LOWEST = 0.02  # probability from which on marks count
LEVELS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)  # thresholds at which marks are checked
# Of the marks that are right on planted faults, so many are on faults of the model's own: benchmarks/confidence.py,
# choosing half.
NATURAL = 0.8
RIGHT = 0.5  # share of a mark's cells that must belong to a fault


def certified(training: Training, facts: TaughtFacts) -> Taught:
    """The best network of a training, with what its exam says.

    Args:
        training: a finished or interrupted one.
        facts: what is known besides; the figures of the exam are added.
    """
    network = FaultNet.of(training.best)
    found, truth, clean = training.exam(network)
    marks = first_marks(found[clean] / LOWEST, SETTINGS, LOWEST)
    step = max(training.exams, key=lambda step: training.exams[step], default=training.step)
    known = replace(
        facts,
        channels=network.channels,
        size=(truth.shape[1], truth.shape[2]),
        steps=step,
        precision=round(average_precision(found, truth), 3),
        chance=round(float(truth.mean()), 3),
    )
    return Taught(network, known, marks, certainty_of(found, truth))


def certainty_of(found: NDArray[np.float32], truth: BoolMap) -> Certainty | None:
    """How likely a mark is right, by its mean probability; None if there are too few marks.

    Args:
        found: probabilities [N,H,W], of images with a fault and without.
        truth: where the faults are, bool [N,H,W].
    """
    strengths: list[float] = []
    right: list[bool] = []
    for own, fault in zip(found, truth, strict=True):
        near = dilate(fault, 1)
        for level in LEVELS:
            labels, regions, _ = find_regions(own > level, own, SETTINGS)
            for number, region in enumerate(regions, 1):
                strengths.append(region.score)
                right.append(bool(near[labels == number].mean() >= RIGHT))
    planted = Certainty.of(strengths, right)
    return None if planted is None else planted.scaled(NATURAL)
