"""Which images of a batch are good, by a run's report; a video is one thing, with all its frames.

They are judged by the share of them that is marked: it tells images judged bad by eye from good ones better than the
score of the strongest region, and than whether there is a region at all (docs/benchmarks/table2.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .report import Report


@dataclass(frozen=True)
class Verdict:
    """What a run found in one image, or in all frames of one video.

    Attributes:
        score: of its strongest region, 0 (none) to 100; 1 is exactly at the threshold.
        regions: how many there are.
        area: share of it that is marked, 0 to 1.
    """

    score: float
    regions: int
    area: float


def verdicts(report: Report) -> list[Verdict]:
    """What was found in each image or video of a batch."""
    frames = report.run.frames
    found = []
    for first in range(0, len(report.images), frames):
        images = report.images[first : first + frames]
        found.append(
            Verdict(
                score=max(image.score for image in images),
                regions=sum(len(image.regions) for image in images),
                area=float((report.labels[first : first + frames] > 0).mean()),
            )
        )
    return found


def passing(report: Report, max_share: float) -> list[int]:
    """Places of the images or videos of which no larger share is marked.

    Most images have some mark, also good ones: how much is marked says more.

    Args:
        report: of the run.
        max_share: 0 to 1; 0 lets those pass that have no region.
    """
    return [place for place, found in enumerate(verdicts(report)) if found.area <= max_share]


def cleanest(report: Report, count: int) -> list[int]:
    """Places of the cleanest images or videos, best first: by marked area, then by score, then by place.

    The area comes first because the strongest score hardly tells good images from bad ones.

    Raises:
        ValueError: count is below 1.
    """
    if count < 1:
        raise ValueError(f"At least one image has to be taken, got a count of {count}.")
    found = verdicts(report)
    order = sorted(range(len(found)), key=lambda place: (found[place].area, found[place].score, place))
    return order[:count]


def part_of(report: Report, places: Sequence[int]) -> Report:
    """The report of some images or videos of a batch, in the given order and numbered anew.

    Raises:
        ValueError: there is none at a place.
    """
    frames, count = report.run.frames, len(report.images) // report.run.frames
    if any(not 0 <= place < count for place in places):
        raise ValueError(f"This report is about {count} image(s), counted from 0; {list(places)} were asked for.")
    images = [place * frames + frame for place in places for frame in range(frames)]
    return replace(
        report,
        images=tuple(replace(report.images[old], index=new) for new, old in enumerate(images)),
        **{name: getattr(report, name)[images] for name in ("labels", "ratios", "trace", "frames")},
    )
