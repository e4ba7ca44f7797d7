"""Selects the good images of a batch by their report; a video with all its frames counts as one.

Images are ranked by their run score, which ranks images of one prompt better than what is marked in them does
(docs/benchmarks/picking.md). Where it was not read, the marked area ranks them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .outcome import plural
from .ranking import Ranked
from .report import Report


@dataclass(frozen=True)
class Verdict:
    """What was detected in one image, or in all frames of one video.

    Attributes:
        score: score of its strongest region, up to 100; 1 is exactly at the threshold, 0 means no region.
        regions: number of regions.
        area: marked share of the area, 0 to 1.
        measurable: False if it, or one of its frames, held NaN or infinity.
        looked_at: False if nobody looked at it, or at one of its frames.
        too_large: number of regions that were left alone because of ``max_area``.
        run_score: relative to its batch; None if it was not read.
    """

    score: float
    regions: int
    area: float
    measurable: bool = True
    looked_at: bool = True
    too_large: int = 0
    run_score: Ranked | None = None


def verdicts(report: Report) -> list[Verdict]:
    """What was detected in each image or video of a batch."""
    frames = report.run.frames
    found = []
    for first in range(0, len(report.images), frames):
        images = report.images[first : first + frames]
        found.append(
            Verdict(
                score=max(image.score for image in images),
                regions=sum(len(image.regions) for image in images),
                area=float((report.labels[first : first + frames] > 0).mean()),
                measurable=all(image.measurable for image in images),
                looked_at=all(image.looked_at for image in images),
                too_large=sum(image.too_large for image in images),
                run_score=images[0].run_score,
            )
        )
    return found


def passing(report: Report, max_share: float = 1.0, drop: float = 0.0) -> list[int]:
    """Indices of the images or videos that pass; none that is not measurable.

    An image that nobody looked at has no marks, so it is not rejected for them; and without a run score, either, it is
    not dropped as one of the worst.

    Args:
        report: the run's report.
        max_share: most marked area, 0 to 1; with 0 only images without regions pass.
        drop: share of the images that is dropped as the worst, 0 to 1, rounded down to whole images.
    """
    found, order = verdicts(report), ranking(report)
    known = [place for place in order if found[place].run_score is not None or found[place].looked_at]
    dropped = set(known[max(0, len(known) - int(drop * len(order) + 1e-9)) :])
    return [
        place
        for place, verdict in enumerate(found)
        if place not in dropped and verdict.measurable and verdict.area <= max_share
    ]


def best(report: Report, count: int) -> list[int]:
    """Indices of the best images or videos, best first.

    Raises:
        ValueError: count is below 1.
    """
    if count < 1:
        raise ValueError(f"The number of images to select must be 1 or more, got {count}.")
    return ranking(report)[:count]


def ranking(report: Report) -> list[int]:
    """Indices of all images or videos, best first: by run score, then by marked area, by region score and by index.

    Images without a run score follow those with one, images that nobody looked at follow the others, and those that
    are not measurable are last.
    """
    found = verdicts(report)

    def rank(place: int) -> tuple[bool, bool, float, float, float, int]:
        own = found[place]
        score = math.nan if own.run_score is None else own.run_score.relative
        score = -math.inf if math.isnan(score) else score
        return not own.measurable, not own.looked_at, -score, own.area, own.score, place

    return sorted(range(len(found)), key=rank)


def part_of(report: Report, places: Sequence[int]) -> Report:
    """The report of selected images or videos of a batch, in the given order and renumbered from 0.

    Raises:
        ValueError: an index is out of range.
    """
    frames, count = report.run.frames, len(report.images) // report.run.frames
    if any(not 0 <= place < count for place in places):
        raise ValueError(
            f"This report is about {plural(count, 'image')}, counted from 0, but {list(places)} were selected."
        )
    images = [place * frames + frame for place in places for frame in range(frames)]
    kept = None if report.predictions is None else report.predictions[images]
    return replace(
        report,
        predictions=kept,
        images=tuple(replace(report.images[old], index=new) for new, old in enumerate(images)),
        **{name: getattr(report, name)[images] for name in ("labels", "ratios", "trace", "frames")},
    )
