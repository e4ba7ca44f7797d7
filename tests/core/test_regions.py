"""Regions compared with an independent labeling, and the size filters in image pixels."""

import numpy as np
import pytest
from scipy import ndimage

from asced_core import DetectionSettings
from asced_core.detect.regions import find_regions, grow_labels, resize_labels
from asced_core.maps import dilate, resize_mask


def _filters_one_by_one(raw, low, high, width):
    labels, count = ndimage.label(raw)  # 4-connected
    kept = np.zeros_like(raw)
    for label in range(1, count + 1):
        part = labels == label
        fits = ndimage.binary_erosion(part, np.ones((width, width))).any() if width > 1 else True
        if low < part.sum() < high and fits:
            kept |= part
    return kept


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_filters_match_a_labeling_by_another_library(seed, width):
    noise = np.random.default_rng(seed).normal(size=(90, 120))
    raw = ndimage.gaussian_filter(noise, 2.5) > 0.08
    settings = DetectionSettings(mode="reference", min_area=40, max_area=600, min_width=width)
    labels, regions, _ = find_regions(raw, raw.astype(np.float32), settings)
    expected = _filters_one_by_one(raw, 40, 600, width)
    assert np.array_equal(labels > 0, expected)
    for n, region in enumerate(regions, start=1):
        rows, columns = np.nonzero(labels == n)
        assert region.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert region.area == len(rows)
    assert sum(r.area for r in regions) == expected.sum()


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_sizes_mean_the_same_at_every_resolution(size):
    f = size // 64
    small = np.zeros((64, 64), bool)
    small[10:13, 10:13] = True  # 9 cells: 144 px^2 of a 256-px image
    small[30:32, 30:32] = True  # 4 cells: 64 px^2, below min_area
    small[50:51, 5:40] = True  # 1 cell high, too thin
    raw = small.repeat(f, 0).repeat(f, 1)
    settings = DetectionSettings(min_width=8)
    labels, regions, _ = find_regions(raw, raw.astype(np.float32), settings)
    assert [r.box for r in regions] == [(10 * f, 10 * f, 13 * f, 13 * f)]
    assert (labels == 1).sum() == 9 * f * f


def test_regions_come_strongest_first_with_their_mean_score():
    raw, ratio = np.zeros((64, 64), bool), np.zeros((64, 64), np.float32)
    raw[5:15, 5:15], ratio[5:15, 5:15] = True, 2
    raw[40:50, 40:50], ratio[40:50, 40:50] = True, 3
    ratio[40, 40] = 53
    labels, regions, _ = find_regions(raw, ratio, DetectionSettings())
    assert [r.score for r in regions] == [pytest.approx(3.5), 2.0]
    assert labels[45, 45] == 1 and labels[10, 10] == 2


def test_an_empty_mask_has_no_regions():
    labels, regions, _ = find_regions(np.zeros((8, 8), bool), np.zeros((8, 8), np.float32), DetectionSettings())
    assert not labels.any() and regions == []


def test_dilation_is_a_square_and_stops_at_the_border():
    mask = np.zeros((10, 10), bool)
    mask[0, 5] = True
    grown = dilate(mask, 2)
    assert grown.sum() == 15 and grown[:3, 3:8].all()
    assert dilate(mask, 0) is mask


def test_upscaling_repeats_cells():
    mask = np.eye(3, dtype=bool)
    assert np.array_equal(resize_mask(mask, 6, 6), mask.repeat(2, 0).repeat(2, 1))
    assert resize_mask(mask, 3, 3) is mask


@pytest.mark.parametrize("cells", [1, 2, 5])
def test_growth_matches_dilation_and_new_cells_join_the_nearest_region(cells):
    labels = np.zeros((40, 40), np.uint16)
    labels[5:10, 5:10], labels[5:10, 13:18], labels[30:33, 2:5] = 1, 2, 3
    grown = grow_labels(labels, cells)
    assert np.array_equal(grown > 0, dilate(labels > 0, cells))
    assert np.array_equal(grown[labels > 0], labels[labels > 0])
    for row, column in np.argwhere((grown > 0) & (labels == 0)):
        distance = {n: np.abs(np.argwhere(labels == n) - (row, column)).max(1).min() for n in (1, 2, 3)}
        assert distance[grown[row, column]] == min(distance.values())
    assert grow_labels(labels, 0) is labels


def test_every_region_survives_resizing():
    labels = np.zeros((64, 64), np.uint16)
    labels[10:12, 10:12], labels[40:44, 20:30] = 2, 1
    assert set(np.unique(resize_labels(labels, 8, 8))) == {0, 1, 2}
    large = resize_labels(labels, 128, 128)
    assert np.array_equal(large, labels.repeat(2, 0).repeat(2, 1))


def test_grown_regions_add_up_to_the_dilated_mask():
    """``reference`` without scaling, with ``expand``: excluding one region loses no cell of the others."""
    raw = np.zeros((90, 90), bool)
    raw[10:30, 10:30], raw[50:80, 40:80] = True, True
    settings = DetectionSettings(mode="reference", min_area=40)
    labels, regions, _ = find_regions(raw, raw.astype(np.float32), settings)
    grown = grow_labels(labels, 5)
    alone = [(grown == n).sum() for n in (1, 2)]
    assert len(regions) == 2 and sum(alone) == dilate(raw, 5).sum()
