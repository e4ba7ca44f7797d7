"""Regions against an independent labelling, and the size rules in image pixels."""

import numpy as np
import pytest
from scipy import ndimage

from asced_core import DetectionSettings
from asced_core.detect.regions import find_regions
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
def test_filters_equal_a_labelling_of_another_library(seed, width):
    noise = np.random.default_rng(seed).normal(size=(90, 120))
    raw = ndimage.gaussian_filter(noise, 2.5) > 0.08
    settings = DetectionSettings(mode="reference", min_area=40, max_area=600, min_width=width)
    mask, regions = find_regions(raw, raw.astype(np.float32), settings)
    expected = _filters_one_by_one(raw, 40, 600, width)
    assert np.array_equal(mask, expected)
    assert sum(r.area for r in regions) == expected.sum()


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_settings_mean_the_same_at_every_resolution(size):
    f = size // 64
    small = np.zeros((64, 64), bool)
    small[10:13, 10:13] = True  # 9 cells: 144 px^2 of a 256-px image
    small[30:32, 30:32] = True  # 4 cells: 64 px^2, below min_area
    small[50:51, 5:40] = True  # 1 cell thin
    raw = small.repeat(f, 0).repeat(f, 1)
    settings = DetectionSettings(min_width=8)
    mask, regions = find_regions(raw, raw.astype(np.float32), settings)
    assert [r.box for r in regions] == [(10 * f, 10 * f, 13 * f, 13 * f)]
    assert mask.sum() == 9 * f * f


def test_regions_come_strongest_first_with_their_mean_score():
    raw, ratio = np.zeros((64, 64), bool), np.zeros((64, 64), np.float32)
    raw[5:15, 5:15], ratio[5:15, 5:15] = True, 2
    raw[40:50, 40:50], ratio[40:50, 40:50] = True, 3
    ratio[40, 40] = 53
    _, regions = find_regions(raw, ratio, DetectionSettings())
    assert [r.score for r in regions] == [pytest.approx(3.5), 2.0]


def test_nothing_in_nothing_out():
    mask, regions = find_regions(np.zeros((8, 8), bool), np.zeros((8, 8), np.float32), DetectionSettings())
    assert not mask.any() and regions == []


def test_dilation_is_a_square_and_stops_at_the_border():
    mask = np.zeros((10, 10), bool)
    mask[0, 5] = True
    grown = dilate(mask, 2)
    assert grown.sum() == 15 and grown[:3, 3:8].all()
    assert dilate(mask, 0) is mask


def test_resize_keeps_cells_square():
    mask = np.eye(3, dtype=bool)
    assert np.array_equal(resize_mask(mask, 6, 6), mask.repeat(2, 0).repeat(2, 1))
    assert resize_mask(mask, 3, 3) is mask
