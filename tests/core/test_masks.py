"""Masks as people get them: grown, soft, by score, spread over the frames of a video."""

import numpy as np
import pytest

from asced_core import DetectionSettings, Region
from asced_core.facts import ImageReport, RunFacts
from asced_core.masks import shaped_masks, spread_over_frames
from asced_core.report import Report, empty_report
from asced_core.settings import CorrectionSettings


@pytest.fixture
def report():
    """One image of 16x16 cells, 128 px, with two regions: score 5 at (2,2), score 2 at (10,10)."""
    from dataclasses import replace

    blank = empty_report((1, 16, 16), (1.0, 0.0), DetectionSettings(), CorrectionSettings(), RunFacts(), ())
    mask = np.zeros((1, 16, 16), bool)
    mask[0, 2:5, 2:5] = mask[0, 10:12, 10:12] = True
    regions = (Region((2, 2, 5, 5), 9, 5.0), Region((10, 10, 12, 12), 4, 2.0))
    facts = RunFacts(image_size=(128, 128))
    made = replace(blank, images=(ImageReport(0, 5.0, regions, True),), masks=mask, run=facts)
    assert isinstance(made, Report)
    return made


def test_plain_masks_are_the_reports(report):
    plain = shaped_masks(report, 128, 128)
    assert plain.dtype == np.float32 and np.array_equal(plain, report.image_masks())


def test_they_grow_by_pixels_of_the_image_and_round(report):
    grown = shaped_masks(report, 128, 128, grow=4)[0]
    assert grown[12:44, 28].all() and not grown[:12, 28].any() and not grown[12, 12]


def test_the_edge_fades_outside_and_the_region_stays_whole(report):
    soft = shaped_masks(report, 128, 128, soft=6)[0]
    hard = shaped_masks(report, 128, 128)[0]
    assert (soft[hard > 0] == 1).all()
    assert (np.diff(soft[28, 39:47]) < 0).all() and soft[28, 47:60].max() == 0


def test_weak_regions_go_by_their_score(report):
    strong = shaped_masks(report, 128, 128, min_score=3.0)[0]
    assert strong[16:40, 16:40].all() and not strong[80:, 80:].any()
    assert not shaped_masks(report, 128, 128, min_score=9.0).any()


@pytest.mark.parametrize(("latent", "decoded", "third"), [(9, 33, [9, 10, 11, 12]), (9, 9, [3]), (4, 8, [6, 7])])
def test_decoded_frames_take_the_mask_of_their_latent_frame(latent, decoded, third):
    masks = np.zeros((2 * latent, 4, 4), np.float32)
    masks[latent + 3] = 1  # of the second video
    spread = spread_over_frames(masks, latent, decoded)
    assert spread.shape == (2 * decoded, 4, 4)
    assert [i - decoded for i in np.flatnonzero(spread.any((1, 2)))] == third
