"""Selects the good images of a batch by their report; a video with all its frames counts as one.

Images are ranked by the share of marked area. It separates images that look bad from good ones better than the score of
the strongest region does, and better than whether there is a region at all (docs/benchmarks/table2.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    """

    score: float
    regions: int
    area: float
    measurable: bool = True
    looked_at: bool = True
    too_large: int = 0


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
            )
        )
    return found


def passing(report: Report, max_share: float) -> list[int]:
    """Indices of the images or videos with a marked share of at most ``max_share``; none that is not measurable.

    Most images have some marks, even good ones, so the marked area says more than their presence. An image that nobody
    looked at passes: there is no reason to reject it.

    Args:
        report: the run's report.
        max_share: 0 to 1; with 0 only images without regions pass.
    """
    found = enumerate(verdicts(report))
    return [place for place, verdict in found if verdict.measurable and verdict.area <= max_share]


def cleanest(report: Report, count: int) -> list[int]:
    """Indices of the cleanest images or videos, best first: by marked area, then by score, then by index.

    The area comes first because the strongest score barely separates good images from bad ones. Images that nobody
    looked at follow, and those that are not measurable are last.

    Raises:
        ValueError: count is below 1.
    """
    if count < 1:
        raise ValueError(f"The number of images to select must be 1 or more, got {count}.")
    found = verdicts(report)

    def rank(place: int) -> tuple[bool, bool, float, float, int]:
        own = found[place]
        return not own.measurable, not own.looked_at, own.area, own.score, place

    return sorted(range(len(found)), key=rank)[:count]


def part_of(report: Report, places: Sequence[int]) -> Report:
    """The report of selected images or videos of a batch, in the given order and renumbered from 0.

    Raises:
        ValueError: an index is out of range.
    """
    frames, count = report.run.frames, len(report.images) // report.run.frames
    if any(not 0 <= place < count for place in places):
        raise ValueError(f"This report is about {count} image(s), counted from 0, but {list(places)} were selected.")
    images = [place * frames + frame for place in places for frame in range(frames)]
    return replace(
        report,
        images=tuple(replace(report.images[old], index=new) for new, old in enumerate(images)),
        **{name: getattr(report, name)[images] for name in ("labels", "ratios", "trace", "frames")},
    )
