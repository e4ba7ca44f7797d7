"""Smoothing compared with scipy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from asced_core.detect.smoothing import (
    MATRIX_LENGTH,
    SMALL,
    GaussianSmoother,
    _Filter,
    _Products,
    cosine_rows,
    smoothing_matrix,
)


@pytest.mark.parametrize("size", [(64, 64), (5, 3), (MATRIX_LENGTH + 50, 71), (1, MATRIX_LENGTH + 1)])
@pytest.mark.parametrize("sigma", [0.5, 2.0, 2.5])
def test_a_narrow_kernel_equals_scipy(size, sigma, rng):
    maps = torch.rand(2, 4, *size, generator=rng)
    ours = GaussianSmoother(size, sigma, None, maps.device)(maps)
    theirs = gaussian_filter(maps.numpy().astype(np.float64), (0, 0, sigma, sigma))
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-6)


@pytest.mark.parametrize("size", [(SMALL, SMALL), (7, 5), (MATRIX_LENGTH + 9, 30), (1, SMALL + 1), (2, 3)])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.7])
def test_a_narrow_kernel_equals_scipy_on_the_cpu_and_elsewhere(size, sigma, rng):
    """Also where a run on the CPU takes the other way, and on maps that are not contiguous."""
    maps = torch.rand(2, *size, 3, generator=rng).movedim(-1, 1)
    theirs = gaussian_filter(maps.numpy().astype(np.float64), (0, 0, sigma, sigma))
    for ours in (_Filter(sigma)(maps), _Products(size, sigma, maps.device)(maps)):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-6)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("size", [(64, 64), (90, 120)])
def test_the_average_of_a_wider_gaussian_is_subtracted(size, sigma, rng):
    maps = torch.randn(2, 3, *size, generator=rng)
    narrow, wide = (GaussianSmoother(size, one, None, maps.device)(maps) for one in (sigma, 16 * sigma))
    both = GaussianSmoother(size, sigma, None, maps.device, minus=16 * sigma)(maps)
    assert narrow.std() > 2 * wide.std() > 0
    torch.testing.assert_close(both, narrow - wide, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (9, 12), (300, 310), (512, 40)])
@pytest.mark.parametrize("sigma", [4.0, 16.0, 50.0])
def test_a_wide_kernel_equals_scipy_but_for_what_both_cut_off(size, sigma, rng):
    """White noise in, so that every frequency counts: the error is a thousandth of what is left of it."""
    maps = torch.randn(1, 2, *size, generator=rng)
    ours = GaussianSmoother(size, sigma, None, maps.device)(maps).numpy()
    theirs = gaussian_filter(maps.numpy().astype(np.float64), (0, 0, sigma, sigma))
    assert ours.shape == theirs.shape
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 2e-3 * np.sqrt(np.mean(theirs**2))


def test_a_constant_stays_as_it_is(rng):
    maps = torch.full((1, 1, 300, 64), 3.0)
    for sigma in (0.6, 4.0, 80.0):
        torch.testing.assert_close(GaussianSmoother((300, 64), sigma, None, maps.device)(maps), maps, rtol=1e-5, atol=0)


def test_few_rows_smooth_an_axis_however_long_it_is():
    assert [len(cosine_rows(length, length / 64)) for length in (64, 256, 4096)] == [64, 88, 88]
    assert len(cosine_rows(256, 64.0)) == 6


@pytest.mark.parametrize("channels", [1, 3, 4, 16])
def test_smoothing_over_channels_equals_the_authors_call(channels, rng):
    maps = torch.rand(1, channels, 40, 50, generator=rng)
    ours = GaussianSmoother((40, 50), 2.0, channels, maps.device)(maps)
    theirs = gaussian_filter(maps[0].numpy().astype(np.float64), 2.0)
    np.testing.assert_allclose(ours[0].numpy(), theirs, atol=2e-6)


def test_the_mixing_matrix_of_three_channels():
    expected = [[0.38914, 0.33329, 0.27757], [0.33329, 0.33343, 0.33329], [0.27757, 0.33329, 0.38914]]
    np.testing.assert_allclose(smoothing_matrix(3, 2.0), expected, atol=1e-5)
    np.testing.assert_allclose(smoothing_matrix(7, 1.3), gaussian_filter1d(np.eye(7), 1.3, axis=0), atol=1e-12)


def test_without_smoothing_the_maps_are_returned(rng):
    maps = torch.rand(1, 2, 4, 4, generator=rng)
    assert GaussianSmoother((4, 4), 0.0, None, maps.device)(maps) is maps
