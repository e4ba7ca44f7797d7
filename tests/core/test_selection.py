"""Selecting the good images of a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asced_core import ImageReport, Region
from asced_core.detect.run_score import RunScore
from asced_core.report.ranking import ranked
from asced_core.report.selection import best, part_of, passing, verdicts


@pytest.fixture
def batch(report):
    """Six images with areas 4, 0, 9, 3, 4, 0 of 64 cells; of the two with 4, the later one has the lower score."""
    scores, areas = (2.0, 0.0, 1.2, 2.5, 1.2, 0.0), (4, 0, 9, 3, 4, 0)
    labels = np.zeros((6, 8, 8), np.uint16)
    for own, area in zip(labels, areas, strict=True):
        own.flat[:area] = 1
    images = tuple(
        ImageReport(i, score, (Region((0, 0, 8, 1), area, score),) if area else (), area > 0)
        for i, (score, area) in enumerate(zip(scores, areas, strict=True))
    )
    spread = [0, 1, 0, 1, 0, 1]
    arrays = {name: getattr(report, name)[spread] for name in ("trace", "frames")}
    return replace(report, images=images, labels=labels, ratios=labels.astype(np.float16), **arrays)


def test_the_gate_passes_images_up_to_a_marked_share(batch):
    assert passing(batch, 0.0) == [1, 5]
    assert passing(batch, 4 / 64) == [0, 1, 3, 4, 5]  # regardless of the scores
    assert passing(batch, 3.9 / 64) == [1, 3, 5]
    assert passing(batch, 1.0) == list(range(6))


def test_the_cleanest_come_first_by_area_then_score_then_index(batch):
    assert best(batch, 6) == [1, 5, 3, 4, 0, 2]
    assert best(batch, 3) == [1, 5, 3] and best(batch, 99) == best(batch, 6)
    with pytest.raises(ValueError, match="must be 1 or more, got 0"):
        best(batch, 0)


def test_a_video_counts_with_all_its_frames(batch):
    videos = replace(batch, run=replace(batch.run, frames=3))
    assert [(v.score, v.regions, round(v.area * 3 * 64)) for v in verdicts(videos)] == [(2.0, 2, 13), (2.5, 2, 7)]
    assert best(videos, 2) == [1, 0] and passing(videos, 0.0) == [] and passing(videos, 10 / 192) == [1]
    part = part_of(videos, [1])
    assert len(part.images) == 3 and part.images[0].score == 2.5 and np.array_equal(part.masks, batch.masks[3:])


def test_the_report_of_selected_images_is_complete(batch):
    part = part_of(batch, [4, 1])
    assert [(i.index, i.score) for i in part.images] == [(0, 1.2), (1, 0.0)]
    assert np.array_equal(part.masks, batch.masks[[4, 1]])
    assert part.trace.shape[0] == part.ratios.shape[0] == 2
    assert part.summary().startswith("1 region in 1 of 2 images; 1 image corrected")
    with pytest.raises(ValueError, match="about 6 image"):
        part_of(batch, [6])


def _with(batch, place, **state):
    images = list(batch.images)
    images[place] = replace(images[place], **state)
    return replace(batch, images=tuple(images))


def test_an_image_that_is_not_measurable_never_passes_and_comes_last(batch):
    lost = _with(batch, 1, measurable=False)
    assert passing(lost, 1.0) == [0, 2, 3, 4, 5]
    assert best(lost, 6) == [5, 3, 4, 0, 2, 1]
    assert best(part_of(lost, [1, 0]), 1) == [1]
    both = _with(lost, 2, looked_at=False)
    assert best(both, 6) == [5, 3, 4, 0, 2, 1]


def test_a_video_with_one_frame_that_is_not_measurable_is_not_measurable(batch):
    videos = replace(_with(batch, 1, measurable=False), run=replace(batch.run, frames=3))
    assert [verdict.measurable for verdict in verdicts(videos)] == [False, True]
    assert passing(videos, 1.0) == [1] and best(videos, 2) == [1, 0]


def _scored(batch, *sharpness):
    own = ranked([RunScore(value) for value in sharpness])
    return replace(
        batch, images=tuple(replace(image, run_score=one) for image, one in zip(batch.images, own, strict=True))
    )


def test_the_run_score_ranks_before_the_marked_area(batch):
    scored = _scored(batch, 3, 1, 6, 2, 5, 4)
    assert best(scored, 6) == [2, 4, 5, 0, 3, 1]
    assert best(_scored(batch, *[1] * 6), 6) == best(batch, 6)  # equal ones go by marked area
    part = part_of(scored, [4, 0])
    assert best(part, 2) == [0, 1] and part.images[0].run_score == scored.images[4].run_score


def test_an_image_without_a_finite_run_score_follows_those_with_one(batch):
    scored = _scored(batch, 3, float("nan"), 6, 2, 5, 4)
    assert best(scored, 6) == [2, 4, 5, 0, 3, 1]
    assert passing(scored, drop=1 / 6) == [0, 2, 3, 4, 5]
    lost = _with(scored, 2, measurable=False)  # it turned NaN after its score was read
    assert best(lost, 6) == [4, 5, 0, 3, 1, 2] and passing(lost) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    ("drop", "kept"),
    [
        (0.0, [0, 1, 2, 3, 4, 5]), (0.16, [0, 1, 2, 3, 4, 5]), (1 / 6, [0, 2, 3, 4, 5]), (0.5, [2, 4, 5]),
        (0.99, [2]), (1.0, []),
    ],
)  # fmt: skip
def test_a_share_of_the_worst_is_dropped_rounded_down(batch, drop, kept):
    assert passing(_scored(batch, 3, 1, 6, 2, 5, 4), drop=drop) == kept


def test_share_and_marked_area_both_have_to_be_passed(batch):
    scored = _scored(batch, 3, 1, 6, 2, 5, 4)
    assert passing(scored, 4 / 64, 0.5) == [4, 5]  # image 2 ranks first, but too much of it is marked
    assert passing(scored, 0.0, 0.5) == [5]


def test_a_single_image_is_dropped_only_by_the_whole_share(batch):
    alone = part_of(_scored(batch, 3, 1, 6, 2, 5, 4), [0])
    assert passing(alone, drop=0.99) == [0] and passing(alone, drop=1.0) == []


def test_a_video_is_ranked_by_its_own_run_score(batch):
    own = ranked([RunScore(1.0), RunScore(2.0)])
    images = tuple(replace(image, run_score=own[place // 3]) for place, image in enumerate(batch.images))
    videos = replace(batch, images=images, run=replace(batch.run, frames=3))
    assert best(videos, 2) == [1, 0] and passing(videos, drop=0.5) == [1]


def test_of_a_run_that_was_not_watched_all_images_pass_in_their_order(batch):
    unwatched = replace(batch, images=tuple(ImageReport(i, 0.0, (), False, looked_at=False) for i in range(6)),
                        labels=np.zeros_like(batch.labels))  # fmt: skip
    assert passing(unwatched, 0.0) == best(unwatched, 6) == list(range(6))


def test_what_was_not_watched_at_all_is_not_dropped_as_the_worst(batch):
    blind = replace(batch, images=tuple(replace(image, looked_at=False) for image in batch.images))
    assert passing(blind, 1.0, 0.5) == list(range(len(blind.images)))
