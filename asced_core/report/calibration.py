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
from ..settings import BASE_SIZE, LASTING, DetectionSettings, to_dict
from .outcome import plural
from .report import Report, RunFacts

LOWEST = 0.1  # threshold of the runs to learn from; they hold nothing below it
HALVINGS = 16  # bisection steps per image
ROUNDING = 2.0**-10  # ratios are stored as float16, so the true threshold may be this much higher
FREE = (
    "mad_scale",
    "max_area",
    "expand",
    "space",
    "min_probability",
)  # settings that may differ; the space has its own check
MARKS, DETECTION, RUNS = "first_marks", "detection", "runs"  # keys in the file
MODEL, SPACE, LEFT_OUT = "model", "space", "left_out"  # missing in older files
SHARES = (0.01, 0.05, 0.2, 0.5)  # listed in the summary
DIGITS = 16  # length of a run's digest


def first_marks(ratios: NDArray[Any], settings: DetectionSettings, lowest: float = LOWEST) -> NDArray[np.float32]:
    """The highest threshold at which each image still has a region, float32 [B]; ``lowest`` if there is none.

    Regions grow as the threshold falls, so bisection finds it; ``max_area`` is ignored.

    Args:
        ratios: [B,H,W], change as a multiple of the lowest threshold.
        settings: region filters.
        lowest: threshold that the ratios are multiples of.
    """
    unlimited = replace(settings, max_area=2.0 * BASE_SIZE**2)
    return np.array([lowest * max(1.0, _last_ratio(r.astype(np.float32), unlimited)) for r in ratios], np.float32)


def _last_ratio(ratio: NDArray[np.float32], settings: DetectionSettings) -> float:
    low, high = 0.0, float(ratio.max(initial=0.0))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if find_regions(ratio > middle, ratio, settings)[1]:
            low = middle
        else:
            high = middle
    return high * (1 + ROUNDING)


def threshold_for(marks: NDArray[np.float32], share: float) -> float:
    """The threshold at which no more than this share of a model's images gets a mark.

    Args:
        marks: [N], for each image the threshold at which its first region appears.
        share: between 0 and 1, both exclusive.

    Raises:
        ValueError: there are too few images for a share this small.
    """
    count = len(marks)
    place = math.ceil((count + 1) * (1 - share) - 1e-9)  # counted from 1
    if place > count:
        raise ValueError(
            f"{plural(count, 'image')} cannot give a threshold for {100 * share:g}%: calibrate with "
            f"{math.ceil(1 / share) - 1} images or more, or ask for {100 / (count + 1):.1f}% or more."
        )
    return float(np.sort(marks)[max(place, 1) - 1])


@dataclass(frozen=True)
class Origin:
    """Where a calibration holds. What is empty is unknown and fits everything.

    Attributes:
        model: what identifies the checkpoint, see RunFacts.
        space: what the detector looked at; never ``auto``, but what it chose.
    """

    model: str = ""
    space: str = ""

    def differences(self, other: Origin) -> list[str]:
        """What is known to be another one in ``other``, such as ``space latent instead of taesd``."""
        pairs = ((MODEL, self.model, other.model), (SPACE, self.space, other.space))
        return [f"{name} {own} instead of {theirs}" for name, own, theirs in pairs if own and theirs and own != theirs]

    def common(self, other: Origin) -> Origin:
        """What is known of both."""
        return Origin(self.model if self.model == other.model else "", self.space if self.space == other.space else "")

    def notes(self, run: RunFacts) -> tuple[str, ...]:
        """What the user of a run should know if the calibration was made with another model, or in another space."""
        notes: tuple[str, ...] = ()
        if self.model and run.model and self.model != run.model:
            notes += (
                f"The calibration was made with another model ({self.model}; this is {run.model}), so its threshold "
                "may not hold here.",
            )
        if self.space and self.space != run.space:
            notes += (
                f"The calibration was made in space {self.space}, but this run was watched in space {run.space}, so "
                "its threshold may not hold here.",
            )
        return notes


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was learned about a model.

    Attributes:
        marks: float32 [N], for each image the threshold at which its first region appears.
        detection: by name, the detection settings that the images were watched with.
        runs: digests of the runs, so that no run counts twice.
        origin: the model and the space.
        left_out: number of images that could not be measured, or that nobody looked at; they count for nothing.
    """

    marks: NDArray[np.float32]
    detection: dict[str, Any]
    runs: tuple[str, ...] = ()
    origin: Origin = Origin()
    left_out: int = 0

    @classmethod
    def of(cls, report: Report) -> Calibration:
        """The calibration from one run in mode ``strict`` or ``robust`` at threshold LOWEST.

        Raises:
            ValueError: the run was not watched, or with another mode or threshold, or no image could be measured.
        """
        detection = report.detection
        if report.decision is None:
            raise ValueError(
                "This run was not watched, so there is nothing to learn from it: see its summary for the reason."
            )
        if detection["mode"] not in LASTING or not math.isclose(detection["mad_scale"], LOWEST):
            raise ValueError(
                f"This run was watched in mode {detection['mode']} at threshold {detection['mad_scale']:g}, but "
                f"calibration needs mode strict or robust at threshold {LOWEST}: set both in ASCED Detection."
            )
        known = [place for place, image in enumerate(report.images) if image.measurable and image.looked_at]
        if not known:
            raise ValueError(f"There is nothing to learn from this run. {report.summary()}")
        marks = first_marks(report.ratios[known], DetectionSettings(**detection))
        digest = hashlib.sha256(report.ratios.tobytes()).hexdigest()[:DIGITS]
        own = {k: v for k, v in detection.items() if k not in FREE}
        origin = Origin(report.run.model, report.run.space)
        return cls(marks, own, (digest,), origin, len(report.images) - len(known))

    def __add__(self, other: Calibration) -> Calibration:
        """Both calibrations together; a run that is in both counts once.

        Raises:
            ValueError: their detection settings, models or spaces differ.
        """
        _check_same(self.detection, other.detection, "The file's earlier runs", "this run")
        if different := self.origin.differences(other.origin):
            raise ValueError(
                f"The file holds runs of another model or space ({', '.join(different)}): use another name, or turn "
                "on start_over."
            )
        if other.runs and set(other.runs) <= set(self.runs):
            return self
        marks = np.concatenate([self.marks, other.marks])
        runs, origin = (*self.runs, *other.runs), self.origin.common(other.origin)
        return Calibration(marks, self.detection, runs, origin, self.left_out + other.left_out)

    def threshold(self, share: float) -> float:
        """The threshold at which this share of the model's images gets a mark, see ``threshold_for``."""
        return threshold_for(self.marks, share)

    def applied(self, settings: DetectionSettings, share: float) -> DetectionSettings:
        """The settings, with the threshold for this share (0 to 1, both exclusive).

        Raises:
            ValueError: there are too few images, or they were watched with different settings.
        """
        own = {k: v for k, v in to_dict(settings).items() if k not in FREE}
        known, asked = dict(self.detection), dict(own)
        if self.origin.space and settings.space != "auto":  # what auto chooses is known in the run only, see Origin
            known[SPACE], asked[SPACE] = self.origin.space, settings.space
        _check_same(known, asked, "The calibration", "ASCED Detection")
        return replace(settings, mad_scale=self.threshold(share))

    def summary(self) -> str:
        """Text for the user: the number of images and a few thresholds."""
        known = [share for share in SHARES if 1 / share - 1 <= len(self.marks)]
        text = ", ".join(f"{100 * share:g}% at {self.threshold(share):.2f}" for share in known)
        text = text.replace("% at", "% get a mark at threshold", 1)
        learned = plural(len(self.marks), "image") + (f"; {text}." if text else ".")
        if not self.left_out:
            return learned
        were = "was" if self.left_out == 1 else "were"
        return f"{learned} {plural(self.left_out, 'image')} {were} left out, because nothing could be measured there."

    def save(self, path: Path) -> None:
        """Writes a safetensors file; an existing file is replaced atomically."""
        temporary = path.with_name(f"{path.name}.part")
        metadata = {
            DETECTION: json.dumps(self.detection, sort_keys=True, allow_nan=False),
            RUNS: " ".join(self.runs),
            MODEL: self.origin.model,
            SPACE: self.origin.space,
            LEFT_OUT: str(self.left_out),
        }
        save_file({MARKS: self.marks}, temporary, metadata)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads what ``save`` wrote; in older files, the model is unknown, and so is the space that ``auto`` chose.

        Raises:
            ValueError: the file cannot be read as a calibration.
        """
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                marks, detection = file.get_tensor(MARKS), json.loads(metadata[DETECTION])
                asked = detection.pop(SPACE, "auto")  # in older files
                space = metadata.get(SPACE, "" if asked == "auto" else asked)
                origin = Origin(metadata.get(MODEL, ""), space)
                runs, left_out = tuple(metadata[RUNS].split()), int(metadata.get(LEFT_OUT, 0))
                return cls(marks, detection, runs, origin, left_out)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
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
