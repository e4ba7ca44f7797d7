"""One job of a WebUI: its sampling runs, and what users get to see of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...report import ImageReport, Report
from ...report.outcome import plural
from ...report.selection import part_of
from ...settings import BASE_SIZE, CorrectionSettings, DetectionSettings
from .levels import scale_of
from .run import Run, Task

MIDDLE = 3.0  # threshold of a sensitivity of 50
HALVES = 50  # so much more sensitivity halves the threshold


def detection_at(sensitivity: float) -> DetectionSettings:
    """The detector at a sensitivity of 0 to 100: 0 is a threshold of 6, 50 of 3 and 100 of 1.5.

    Raises:
        ValueError: it is out of range.
    """
    if isinstance(sensitivity, bool) or not isinstance(sensitivity, (int, float)) or not 0 <= sensitivity <= 100:
        raise ValueError(f"The sensitivity of ASCED must be a number from 0 to 100, got {sensitivity!r}.")
    threshold = MIDDLE * 2 ** ((50 - sensitivity) / HALVES)
    return DetectionSettings(mode="strict", mad_scale=threshold, base_size=BASE_SIZE)


@dataclass(frozen=True, eq=False)
class _Pass:
    """A run of one batch."""

    run: Run
    seeds: tuple[int, ...]
    subseeds: tuple[int, ...]
    hires: bool  # the second pass of hires fix


class Session:
    """What happens during one job.

    Args:
        sensitivity: of the detector, 0 to 100.
        correct: False only watches.

    Raises:
        ValueError: the sensitivity is out of range.
    """

    def __init__(self, sensitivity: float, correct: bool) -> None:
        self._detection = detection_at(sensitivity)
        self._correction = CorrectionSettings(method="ttc" if correct else "none")
        self._passes: list[_Pass] = []
        self._pictures: list[tuple[Any, int, int]] = []  # decoded and not saved yet, with seed and subseed

    def watch(self, p: Any) -> None:
        """Watches the run that ``p.sampler`` is made for.

        Args:
            p: the WebUI's processing object, right before its sampler is called.
        """
        seeds, subseeds = tuple(map(int, p.seeds)), tuple(map(int, p.subseeds))
        # images of variations share their seed
        items = subseeds if p.subseed_strength else (0,) * len(seeds)
        task = Task(
            sampler=_name(p),
            detection=self._detection,
            correction=self._correction,
            scale=scale_of(p.sd_model, getattr(p.sampler, "model_wrap", None)),
            seeds=seeds,
            items=items,
            rng=getattr(p, "rng", None),
            model=str(getattr(p, "sd_model_hash", "") or ""),
        )
        run = Run(task, p.sampler)
        self._passes.append(_Pass(run, seeds, subseeds, bool(getattr(p, "is_hr_pass", False))))

    def close(self) -> None:
        """Gives samplers that were never called their own function back."""
        for one in self._passes:
            one.run.detach()
        self._pictures.clear()

    def summaries(self) -> list[str]:
        """Each run in one or more sentences."""
        return [one.run.report.summary() for one in self._passes]

    def text(self, seed: int, subseed: int, hires: bool = False) -> str | None:
        """What happened to an image, in a few words; None if it had no such pass.

        Args:
            seed, subseed: of the image.
            hires: of the second pass of hires fix.
        """
        for one, report, place in self._of(seed, subseed):
            if one.hires == hires:
                return _words(report, report.images[place * report.run.frames])
        return None

    def masks(self) -> Iterator[tuple[NDArray[np.uint8], str]]:
        """The mask of each image and pass, [H,W] of 0 and 255, with its caption."""
        for one in self._passes:
            report = one.run.report
            if not all(report.run.image_size):  # nothing is known of its latents
                continue
            for image, mask in zip(report.images, report.image_masks(), strict=True):
                seed = one.seeds[image.index // report.run.frames]
                name = "ASCED mask, hires pass" if one.hires else "ASCED mask"
                yield (mask * 255).astype(np.uint8), f"{name} of seed {seed}: {_words(report, image)}"

    def decoded(self, picture: Any, seed: int, subseed: int) -> None:
        """Notes the picture of an image, to recognize it when it is saved."""
        self._pictures = [known for known in self._pictures if known[1:] != (seed, subseed)]
        self._pictures.append((picture, seed, subseed))

    def saved(self, picture: Any, path: str | Path) -> Path | None:
        """Writes the report of a picture beside its file; returns where, or None if it is not one of this job's.

        Args:
            picture: as given to ``decoded``.
            path: of the saved file.
        """
        for known, seed, subseed in self._pictures:
            if known is picture:
                target = Path(path).with_suffix(".asced.json")
                target.write_text(json.dumps(self.report(seed, subseed), indent=1, allow_nan=False), encoding="utf-8")
                return target
        return None

    def report(self, seed: int, subseed: int) -> dict[str, Any]:
        """The reports of one image's passes, in plain values."""
        passes = [
            {"pass": "hires" if one.hires else "first", **part_of(report, [place]).to_dict()}
            for one, report, place in self._of(seed, subseed)
        ]
        return {"seed": seed, "subseed": subseed, "passes": passes}

    def _of(self, seed: int, subseed: int) -> Iterator[tuple[_Pass, Report, int]]:
        """The passes of an image, with its place in their batch."""
        for one in self._passes:
            images = list(zip(one.seeds, one.subseeds, strict=True))
            if (seed, subseed) in images:
                yield one, one.run.report, images.index((seed, subseed))


def _name(p: Any) -> str:
    """The sampler's name; that of the second pass may be another one."""
    config = getattr(p.sampler, "config", None)
    return str(getattr(config, "name", None) or p.sampler_name)


def _words(report: Report, image: ImageReport) -> str:
    if image.state == "marked":
        done = "corrected" if image.corrected else "not corrected"
        return f"{plural(len(image.regions), 'region')}, score {image.score:.1f}, {done}"
    if image.state == "not_looked_at":
        return " ".join(report.notes) or "Not watched."
    return {"clean": "clean", "too_large": "only regions that are too large", "not_measurable": "not measurable"}[
        image.state
    ]
