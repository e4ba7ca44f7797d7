"""Calibration without labels: the threshold at which a given share of a model's images gets a mark.

For each image of a few runs, we find the threshold at which its first region appears. A quantile of these thresholds is
the one that a given share of further images exceeds, with the guarantee of split conformal prediction (Vovk et al.
2005): if the images are exchangeable, no more than that share is marked, on average over calibrations.
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
from .report import Report, plural

LOWEST = 0.1  # threshold of the runs to learn from; they hold nothing below it
HALVINGS = 16  # bisection steps per image
ROUNDING = 2.0**-10  # ratios are stored as float16, so the true threshold may be this much higher
FREE = ("mad_scale", "max_area", "expand")  # settings that may differ from those of the calibration
MARKS, DETECTION, RUNS = "first_marks", "detection", "runs"  # keys in the file
SHARES = (0.01, 0.05, 0.2, 0.5)  # listed in the summary
DIGITS = 16  # length of a run's digest


def first_marks(ratios: NDArray[Any], settings: DetectionSettings) -> NDArray[np.float32]:
    """The highest threshold at which each image still has a region, float32 [B]; LOWEST if there is none.

    Regions grow as the threshold falls, so bisection finds it; ``max_area`` is ignored.

    Args:
        ratios: [B,H,W], change as a multiple of threshold LOWEST.
        settings: region filters.
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
    """What was learned about a model.

    Attributes:
        marks: float32 [N], for each image the threshold at which its first region appears.
        detection: by name, the detection settings that the images were watched with.
        runs: digests of the runs, so that no run counts twice.
    """

    marks: NDArray[np.float32]
    detection: dict[str, Any]
    runs: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: Report) -> Calibration:
        """The calibration from one run in mode ``robust`` at threshold LOWEST.

        Raises:
            ValueError: the run was not watched, or with another mode or threshold.
        """
        detection = report.detection
        if report.decision is None:
            raise ValueError(
                "This run was not watched, so there is nothing to learn from it: see its summary for the reason."
            )
        if detection["mode"] != "robust" or not math.isclose(detection["mad_scale"], LOWEST):
            raise ValueError(
                f"This run was watched in mode {detection['mode']} at threshold {detection['mad_scale']:g}, but "
                f"calibration needs mode robust at threshold {LOWEST}: set both in ASCED Detection."
            )
        marks = first_marks(report.ratios, DetectionSettings(**detection))
        digest = hashlib.sha256(report.ratios.tobytes()).hexdigest()[:DIGITS]
        return cls(marks, {k: v for k, v in detection.items() if k not in FREE}, (digest,))

    def __add__(self, other: Calibration) -> Calibration:
        """Both calibrations together; a run that is in both counts once.

        Raises:
            ValueError: their detection settings differ.
        """
        _check_same(self.detection, other.detection, "The file's earlier runs", "this run")
        if other.runs and set(other.runs) <= set(self.runs):
            return self
        marks = np.concatenate([self.marks, other.marks])
        return Calibration(marks, self.detection, (*self.runs, *other.runs))

    def threshold(self, share: float) -> float:
        """The threshold at which no more than this share of the model's images gets a mark.

        Args:
            share: between 0 and 1, both exclusive.

        Raises:
            ValueError: there are too few images for a share this small.
        """
        count = len(self.marks)
        place = math.ceil((count + 1) * (1 - share) - 1e-9)  # counted from 1
        if place > count:
            raise ValueError(
                f"{plural(count, 'image')} cannot give a threshold for {100 * share:g}%: calibrate with "
                f"{math.ceil(1 / share) - 1} images or more, or ask for {100 / (count + 1):.1f}% or more."
            )
        return float(np.sort(self.marks)[max(place, 1) - 1])

    def applied(self, settings: DetectionSettings, share: float) -> DetectionSettings:
        """The settings, with the threshold for this share (0 to 1, both exclusive).

        Raises:
            ValueError: there are too few images, or they were watched with different settings.
        """
        own = {k: v for k, v in to_dict(settings).items() if k not in FREE}
        _check_same(self.detection, own, "The calibration", "ASCED Detection")
        return replace(settings, mad_scale=self.threshold(share))

    def summary(self) -> str:
        """Text for the user: the number of images and a few thresholds."""
        known = [share for share in SHARES if 1 / share - 1 <= len(self.marks)]
        text = ", ".join(f"{100 * share:g}% at {self.threshold(share):.2f}" for share in known)
        text = text.replace("% at", "% get a mark at threshold", 1)
        return plural(len(self.marks), "image") + (f"; {text}." if text else ".")

    def save(self, path: Path) -> None:
        """Writes a safetensors file; an existing file is replaced atomically."""
        temporary = path.with_name(f"{path.name}.part")
        metadata = {DETECTION: json.dumps(self.detection, sort_keys=True), RUNS: " ".join(self.runs)}
        save_file({MARKS: self.marks}, temporary, metadata)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads what ``save`` wrote.

        Raises:
            ValueError: the file cannot be read as a calibration.
        """
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                return cls(file.get_tensor(MARKS), json.loads(metadata[DETECTION]), tuple(metadata[RUNS].split()))
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path.name} is not a calibration file ({error}): make one with ASCED Calibrate."
            ) from error


def _check_same(first: dict[str, Any], second: dict[str, Any], whose: str, others: str) -> None:
    different = [f"{k} {first.get(k)} instead of {v}" for k, v in second.items() if first.get(k) != v]
    if different:
        raise ValueError(
            f"{whose} used other settings than {others} ({', '.join(different)}): use the same settings, or calibrate "
            "again from scratch."
        )
