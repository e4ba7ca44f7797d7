"""Several runs on one schedule as one report, such as drafts that were sampled one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .drafts import Drafts
from .report import Report

DIFFERENT_PROMPTS = "The images have different prompts, and run scores compare images of one prompt."


def joined(reports: Sequence[Report]) -> Report:
    """One report about the images of all runs, in this order and numbered from 0.

    Args:
        reports: at least one; of runs with the same size of image, schedule and settings.
    """
    first = reports[0]
    images = [image for report in reports for image in report.images]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(report, name) for report in reports])
        for name in ("labels", "ratios", "trace", "frames")
    }
    run = replace(
        first.run,
        model_calls=sum(report.run.model_calls for report in reports),
        extra_model_calls=sum(report.run.extra_model_calls for report in reports),
        seconds_model=sum(report.run.seconds_model for report in reports),
        seconds_asced=sum(report.run.seconds_asced for report in reports),
    )
    kept = [report.predictions for report in reports if report.predictions is not None]
    corrected = {step for report in reports for step in report.corrected_steps}
    return replace(
        first,
        images=tuple(replace(image, index=index) for index, image in enumerate(images)),
        **arrays,
        predictions=np.concatenate(kept) if len(kept) == len(reports) else None,
        corrected_steps=tuple(sorted(corrected)),
        run=run,
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )


def with_drafts(report: Report, drafts: Drafts) -> Report:
    """A report with what became of the drafts; about all of them, or about the finished ones alone.

    Each image knows its draft, and keeps the run score that it had among all drafts.
    """
    frames = report.run.frames
    places = drafts.kept if len(report.images) == len(drafts.kept) * frames else range(len(drafts.ranked))
    each = zip(report.images, (place for place in places for _ in range(frames)), strict=True)
    images = tuple(replace(image, run_score=drafts.ranked[place], draft=place) for image, place in each)
    caution = (DIFFERENT_PROMPTS,) if report.run.several_prompts else ()
    return replace(report, images=images, drafts=drafts, notes=(*report.notes, *caution))
