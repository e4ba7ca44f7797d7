"""What is usual for a model, without labels: the threshold at which so many of its images get a mark.

Each image of some runs is asked at which threshold its first region appears. The order of these thresholds gives the
one that a named share of further images exceeds, with the guarantee of split conformal prediction (Vovk et al. 2005):
for images drawn alike, no more than that share is marked, on average over calibrations.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..detect.regions import find_regions
from ..settings import BASE_SIZE, DetectionSettings, to_dict
from .report import Report

LOWEST = 0.1  # threshold of the runs to learn from; below it nothing is known
HALVINGS = 16  # of the interval that a threshold is sought in
ROUNDING = 2.0**-10  # a report's ratios are float16, so a region may last a little longer
FREE = ("mad_scale", "max_area", "expand")  # settings that may differ from those of the calibration
MARKS, DETECTION, RUNS = "first_marks", "detection", "runs"  # in the file
SHARES = (0.01, 0.05, 0.2, 0.5)  # that are told of
DIGITS = 16  # of a run's digest


def first_marks(ratios: NDArray[Any], settings: DetectionSettings) -> NDArray[np.float32]:
    """The highest threshold at which each image still has a region, float32 [B]; LOWEST where there is none.

    Regions grow as the threshold falls, so the first is found by halving; ``max_area`` does not count.

    Args:
        ratios: [B,H,W], how many times threshold LOWEST was exceeded.
        settings: the filters of the regions.
    """
    unlimited = replace(settings, max_area=2.0 * BASE_SIZE**2)
    return np.array([LOWEST * max(1.0, _last_ratio(r.astype(np.float32), unlimited)) for r in ratios], np.float32)


def _last_ratio(ratio: NDArray[np.float32], settings: DetectionSettings) -> float:
    low, high = 0.0, float(ratio.max(initial=0.0))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if find_regions(ratio > middle, ratio, settings)[1]:
            low = middle
        else:
            high = middle
    return high * (1 + ROUNDING)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was learned of a model.

    Attributes:
        marks: float32 [N], of each image the threshold at which its first region appears.
        detection: the detection's settings by name, as the images were watched with.
        runs: digests of the runs, so that none is counted twice.
    """

    marks: NDArray[np.float32]
    detection: dict[str, Any]
    runs: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: Report) -> Calibration:
        """From one run in mode ``robust`` that was watched at threshold LOWEST.

        Raises:
            ValueError: the run was not watched, or otherwise.
        """
        detection = report.detection
        if report.decision is None:
            raise ValueError("This run was not watched, so it teaches nothing: see its summary for the reason.")
        if detection["mode"] != "robust" or not math.isclose(detection["mad_scale"], LOWEST):
            raise ValueError(
                f"This run was watched in mode {detection['mode']} at threshold {detection['mad_scale']:g}: a "
                f"calibration learns from mode robust at threshold {LOWEST}; set both in ASCED Detection."
            )
        marks = first_marks(report.ratios, DetectionSettings(**detection))
        digest = hashlib.sha256(report.ratios.tobytes()).hexdigest()[:DIGITS]
        return cls(marks, {k: v for k, v in detection.items() if k not in FREE}, (digest,))

    def __add__(self, other: Calibration) -> Calibration:
        """This one and another run, which counts once if it comes twice.

        Raises:
            ValueError: they were watched with other settings.
        """
        _check_same(self.detection, other.detection, "The file's earlier runs", "this run")
        if other.runs and set(other.runs) <= set(self.runs):
            return self
        marks = np.concatenate([self.marks, other.marks])
        return Calibration(marks, self.detection, (*self.runs, *other.runs))

    def threshold(self, share: float) -> float:
        """The threshold at which no more than this share of the model's images gets a mark.

        Args:
            share: above 0, below 1.

        Raises:
            ValueError: there are too few images for so small a share.
        """
        count = len(self.marks)
        place = math.ceil((count + 1) * (1 - share) - 1e-9)  # counted from 1
        if place > count:
            raise ValueError(
                f"{count} images cannot tell what {100 * share:g} % of them exceed: {math.ceil(1 / share) - 1} or more "
                f"are needed, or ask for {100 / (count + 1):.1f} % or more."
            )
        return float(np.sort(self.marks)[max(place, 1) - 1])

    def applied(self, settings: DetectionSettings, share: float) -> DetectionSettings:
        """The settings with the threshold for this share.

        Raises:
            ValueError: there are too few images, or they were watched with other settings.
        """
        own = {k: v for k, v in to_dict(settings).items() if k not in FREE}
        _check_same(self.detection, own, "The calibration", "ASCED Detection")
        return replace(settings, mad_scale=self.threshold(share))

    def summary(self) -> str:
        """Number of images and some thresholds, in words."""
        known = [share for share in SHARES if 1 / share - 1 <= len(self.marks)]
        told = ", ".join(f"{100 * share:g} % at {self.threshold(share):.2f}" for share in known)
        told = told.replace("% at", "% get a mark at threshold", 1)
        return f"{len(self.marks)} images" + (f"; {told}." if told else ".")

    def save(self, path: Path) -> None:
        """Writes safetensors; a file that is there is replaced in one go."""
        temporary = path.with_name(f"{path.name}.part")
        words = {DETECTION: json.dumps(self.detection, sort_keys=True), RUNS: " ".join(self.runs)}
        save_file({MARKS: self.marks}, temporary, words)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads what ``save`` wrote.

        Raises:
            ValueError: it is no such file.
        """
        try:
            with safe_open(path, "numpy") as file:
                words = file.metadata() or {}
                return cls(file.get_tensor(MARKS), json.loads(words[DETECTION]), tuple(words[RUNS].split()))
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{path.name} is no calibration ({error}): make one with ASCED Calibrate.") from error


def _check_same(first: dict[str, Any], second: dict[str, Any], whose: str, others: str) -> None:
    different = [f"{k} {first.get(k)} and not {v}" for k, v in second.items() if first.get(k) != v]
    if different:
        raise ValueError(
            f"{whose} had {', '.join(different)} of {others}: use the same settings, or calibrate anew with these."
        )
