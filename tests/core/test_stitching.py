"""Tiles are located in the final image by content, and their masks placed there."""

from dataclasses import replace

import numpy as np
import pytest

from asced_core import (
    CorrectionSettings,
    DetectionSettings,
    ImageReport,
    Region,
    Report,
    RunFacts,
    unwatched_report,
)
from asced_core.report.stitching import Tile, stitch


def _report(score: float = 4.0) -> Report:
    """The report of one tile of 8x8 cells with a region in rows 2 to 3, columns 4 to 5."""
    facts = RunFacts(image_size=(64, 64), model_calls=26, extra_model_calls=1, seconds_asced=0.5)
    blank = unwatched_report((1, 8, 8), (1.0, 0.0), DetectionSettings(), CorrectionSettings(), facts, ())
    labels, ratio = np.zeros((1, 8, 8), np.uint16), np.zeros((1, 8, 8), np.float16)
    labels[0, 2:4, 4:6], ratio[0, 2:4, 4:6] = 1, score
    image = ImageReport(0, score, (Region((4, 2, 6, 4), 4, score),), True)
    return replace(blank, images=(image,), labels=labels, ratios=ratio)


@pytest.fixture
def whole() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, 176, 3), dtype=np.uint8)


def _tile(whole: np.ndarray, top: int, left: int, report: Report | None = None) -> Tile:
    return Tile(whole[top : top + 64, left : left + 64].copy(), report or _report(), 0)


CORNERS = [(0, 0), (0, 56), (0, 112), (56, 0), (56, 56), (56, 112)]


def test_all_tiles_are_placed_correctly(whole):
    report = stitch(whole, [_tile(whole, *corner) for corner in CORNERS])
    assert report.masks.shape == (1, 120, 176) and report.size == (120, 176)
    expected = np.zeros((120, 176), bool)
    for top, left in CORNERS:
        expected[top + 16 : top + 32, left + 32 : left + 48] = True
    assert np.array_equal(report.masks[0], expected)
    boxes = {region.box for region in report.images[0].regions}
    assert boxes == {(left + 32, top + 16, left + 48, top + 32) for top, left in CORNERS}
    assert {region.area for region in report.images[0].regions} == {256}
    assert report.images[0].corrected and "6 tiles" in report.summary()


def test_calls_and_seconds_of_all_runs_add_up(whole):
    run = stitch(whole, [_tile(whole, *corner) for corner in CORNERS]).run
    assert (run.model_calls, run.extra_model_calls, run.seconds_asced) == (156, 6, 3.0)


def test_the_newer_of_two_runs_at_one_place_counts(whole):
    newer, older = _tile(whole, 0, 56, _report(7.0)), _tile(whole, 0, 56, _report(3.0))
    report = stitch(whole, [newer, older])
    assert [region.score for region in report.images[0].regions] == [7.0] and "1 tile." in report.summary()


def test_blended_edges_and_slight_noise_do_not_matter(whole):
    tile = _tile(whole, 56, 56)
    tile.picture[:7], tile.picture[:, -7:] = 0, 255
    noise = np.random.default_rng(1).integers(-4, 5, tile.picture.shape)
    noisy = Tile((tile.picture.astype(int) + noise).clip(0, 255).astype(np.uint8), tile.report, 0)
    assert stitch(whole, [noisy]).images[0].regions[0].box == (56 + 32, 56 + 16, 56 + 48, 56 + 32)


def test_regions_of_a_stitched_report_keep_their_labels(whole):
    report = stitch(whole, [_tile(whole, 0, 0, _report(3.0)), _tile(whole, 56, 112, _report(7.0))])
    assert [region.score for region in report.images[0].regions] == [7.0, 3.0]
    assert (report.labels[0, 72:88, 144:160] == 1).all() and (report.labels[0, 16:32, 32:48] == 2).all()
    assert (report.labels > 0).sum() == 512


def test_foreign_and_oversized_tiles_are_ignored(whole):
    other = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    large = np.zeros((300, 300, 3), np.uint8)
    foreign = [Tile(other, _report(), 0), Tile(large, _report(), 0)]
    assert "1 tile." in stitch(whole, [*foreign, _tile(whole, 0, 0)]).summary()
    with pytest.raises(ValueError, match="None of the 2 tiles of this RUN is part of this IMAGE"):
        stitch(whole, foreign)


def _with(report: Report, **state: object) -> Report:
    """The tile's report with another state of its image."""
    return replace(report, images=(replace(report.images[0], **state),), decision=0)


def test_one_tile_that_cannot_be_measured_is_enough(whole):
    blank = replace(_with(_report(), regions=(), score=0.0), labels=np.zeros((1, 8, 8), np.uint16))
    tiles = [_tile(whole, 0, 0, _with(blank, measurable=False)), _tile(whole, 56, 112, _with(blank, too_large=2))]
    report = stitch(whole, tiles)
    assert (report.images[0].state, report.images[0].too_large) == ("not_measurable", 2)
    assert report.summary().startswith("The image could not be measured: ")
    assert "2 regions left alone: larger than max_area. Stitched from 2 tiles." in report.summary()


def test_an_image_is_not_clean_if_a_tile_was_not_watched(whole):
    blank = replace(_with(_report(), regions=(), score=0.0), labels=np.zeros((1, 8, 8), np.uint16))
    unseen = replace(_with(blank, looked_at=False), decision=None)
    report = stitch(whole, [_tile(whole, 0, 0, unseen), _tile(whole, 56, 112, blank)])
    assert report.summary() == "Not watched: 1 of 2 tiles. Stitched from 2 tiles."
    assert report.decision is None and report.images[0].state == "not_looked_at"
    found = stitch(whole, [_tile(whole, 0, 0, unseen), _tile(whole, 56, 112, _with(_report()))])
    assert found.images[0].state == "marked" and found.summary().startswith("1 region in 1 of 1 image; ")
    assert "Not watched: 1 of 2 tiles." in found.summary()
    assert stitch(whole, [_tile(whole, 0, 0, blank)]).summary().startswith("Clean: no artifacts found in 1 image.")
