"""Output masks: grown, soft, filtered by score, spread over the frames of a video."""

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
from asced_core.detect.regions import grow_labels
from asced_core.report.masks import parse_excluded, region_names, shaped_masks, spread_over_frames


@pytest.fixture
def report():
    """One image of 16x16 cells and 128 px with two regions: score 5 at (2,2), score 2 at (10,10)."""
    from dataclasses import replace

    blank = unwatched_report((1, 16, 16), (1.0, 0.0), DetectionSettings(), CorrectionSettings(), RunFacts(), ())
    labels = np.zeros((1, 16, 16), np.uint16)
    labels[0, 2:5, 2:5], labels[0, 10:12, 10:12] = 1, 2
    regions = (Region((2, 2, 5, 5), 9, 5.0), Region((10, 10, 12, 12), 4, 2.0))
    facts = RunFacts(image_size=(128, 128))
    made = replace(blank, images=(ImageReport(0, 5.0, regions, True),), labels=labels, run=facts)
    assert isinstance(made, Report)
    return made


def test_plain_masks_equal_the_report(report):
    plain = shaped_masks(report, 128, 128)
    assert plain.dtype == np.float32 and np.array_equal(plain, report.image_masks())


def test_masks_grow_in_image_pixels_with_rounded_corners(report):
    grown = shaped_masks(report, 128, 128, grow=4)[0]
    assert grown[12:44, 28].all() and not grown[:12, 28].any() and not grown[12, 12]


def test_the_edge_fades_outside_and_the_region_stays_solid(report):
    soft = shaped_masks(report, 128, 128, soft=6)[0]
    hard = shaped_masks(report, 128, 128)[0]
    assert (soft[hard > 0] == 1).all()
    assert (np.diff(soft[28, 39:47]) < 0).all() and soft[28, 47:60].max() == 0


def test_weak_regions_are_filtered_by_score(report):
    strong = shaped_masks(report, 128, 128, min_score=3.0)[0]
    assert strong[16:40, 16:40].all() and not strong[80:, 80:].any()
    assert not shaped_masks(report, 128, 128, min_score=9.0).any()


def _two_regions(report, expand=0):
    """An L-shaped region and a dot inside its box; both grown by ``expand``."""
    from dataclasses import replace

    cells = np.zeros((16, 16), np.uint16)
    cells[2:10, 2] = cells[9, 2:10] = 1
    cells[4:6, 6:8] = 2
    regions = (Region((2, 2, 10, 10), 15, 5.0), Region((6, 4, 8, 6), 4, 2.0))
    return replace(report, images=(ImageReport(0, 5.0, regions, True),), labels=grow_labels(cells, expand)[None])


@pytest.mark.parametrize("expand", [0, 1])
def test_a_region_inside_the_box_of_another_is_excluded_separately(report, expand):
    both = _two_regions(report, expand)
    corner = shaped_masks(both, 16, 16, excluded={(0, 2)})[0] > 0
    dot = shaped_masks(both, 16, 16, excluded={(0, 1)})[0] > 0
    assert corner[2:10, 2].all() and not corner[4:6, 6:8].any()
    assert dot[4:6, 6:8].all() and not dot[2:10, 2].any()
    assert np.array_equal(corner | dot, both.masks[0])
    assert np.array_equal(shaped_masks(both, 16, 16, min_score=3.0)[0] > 0, corner)
    assert not shaped_masks(both, 16, 16, excluded={(0, 1), (0, 2)}).any()


def test_excluding_a_missing_region_changes_nothing(report):
    plain = shaped_masks(report, 128, 128)
    assert np.array_equal(shaped_masks(report, 128, 128, excluded=[(1, 1), (0, 3)]), plain)
    assert region_names(report) == {(0, 1), (0, 2)}


@pytest.mark.parametrize(
    ("text", "names"),
    [("", set()), ("1:2", {(0, 2)}), (" 1:2, 2:1 ", {(0, 2), (1, 1)}), ("1:2 2:1,,1:2", {(0, 2), (1, 1)})],
)
def test_exclude_parses_region_names(text, names):
    assert parse_excluded(text) == names


@pytest.mark.parametrize("text", ["2", "0:1", "1:0", "1:-1", "a:1", "1:1;2:1", "1: 1", "1.5:1", "9" * 10 + ":1"])
def test_exclude_names_what_it_cannot_parse(text):
    with pytest.raises(ValueError, match=r"exclude contains '.*', but expects image:region, such as 1:2, 2:1"):
        parse_excluded(text)


@pytest.mark.parametrize(("latent", "decoded", "third"), [(9, 33, [9, 10, 11, 12]), (9, 9, [3]), (4, 8, [6, 7])])
def test_decoded_frames_get_the_mask_of_their_latent_frame(latent, decoded, third):
    masks = np.zeros((2 * latent, 4, 4), np.float32)
    masks[latent + 3] = 1  # frame 3 of the second video
    spread = spread_over_frames(masks, latent, decoded)
    assert spread.shape == (2 * decoded, 4, 4)
    assert [i - decoded for i in np.flatnonzero(spread.any((1, 2)))] == third
