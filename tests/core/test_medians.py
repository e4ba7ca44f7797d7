"""Medians compared with numpy."""

import numpy as np
import pytest
import torch

from asced_core.detect.medians import SAMPLE, _median_by_counting, _near, median, median_and_mad

MANY = 3 * SAMPLE * 7


def _misleading(count):
    """Large values where the sample is taken, small ones elsewhere."""
    values = np.linspace(0, 1, count)
    values[:: (count // SAMPLE) | 1] += 9
    return values


KINDS = {
    "noise": lambda count, rng: rng.normal(size=count),
    "sorted": lambda count, rng: np.arange(count),
    "one value": lambda count, rng: np.full(count, 2.5),
    "zeros but for a few": lambda count, rng: (rng.random(count) < 0.3) * rng.random(count),
    "two values, half and half": lambda count, rng: np.arange(count) % 2,
    "a huge outlier": lambda count, rng: np.where(np.arange(count) == count // 3, 1e30, rng.random(count)),
    "infinity": lambda count, rng: np.where(rng.random(count) < 0.2, np.inf, rng.random(count)),
    "misleading": lambda count, rng: _misleading(count),
}


@pytest.mark.parametrize("count", [1, 2, 3, 10, 11, 4096])
@pytest.mark.parametrize("levels", [2, 7, 100000])
@pytest.mark.parametrize("way", [median, _median_by_counting], ids=["cpu", "other devices"])
def test_median_equals_numpy(count, levels, way, rng):
    values = torch.randint(levels, (5, count), generator=rng).float()  # few levels: many ties
    np.testing.assert_array_equal(way(values.clone()).numpy(), np.median(values.numpy(), axis=1))


@pytest.mark.parametrize("count", [MANY, MANY + 1, SAMPLE, SAMPLE + 1])
@pytest.mark.parametrize("kind", KINDS)
def test_median_of_many_values_equals_numpy(kind, count):
    values = KINDS[kind](count, np.random.default_rng(0)).astype(np.float32)
    assert median(torch.from_numpy(values)).item() == np.median(values)


@pytest.mark.parametrize(("kind", "few"), [("noise", True), ("sorted", True), ("misleading", False)])
def test_the_sample_leaves_few_values_or_is_not_believed(kind, few):
    values = KINDS[kind](MANY, np.random.default_rng(0)).astype(np.float32)
    near, below = _near(values, MANY // 2)
    assert (0 < MANY // 2 - below < len(near) < MANY / 10) == few


@pytest.mark.parametrize("count", [1, 2, 3, 10, 11, 4096])
def test_median_and_deviation_equal_numpy(count, rng):
    values = torch.rand(5, count, generator=rng)
    expected = np.median(values.numpy(), axis=1)
    deviation = np.median(np.abs(values.numpy() - expected[:, None]), axis=1)
    middle, mad = median_and_mad(values)
    np.testing.assert_array_equal(middle.numpy(), expected)
    np.testing.assert_array_equal(mad.numpy(), deviation)


def test_of_what_is_not_finite_there_is_no_error():
    """No such image is measured, but it may share a batch with others."""
    values = torch.full((2, MANY), torch.nan)
    values[1] = torch.arange(MANY)
    assert median(values)[1].item() == np.median(values[1])


def test_median_leaves_the_values_in_their_places(rng):
    values = torch.rand(3, 50, generator=rng)
    before = values.clone()
    median(values)
    assert torch.equal(values, before)
