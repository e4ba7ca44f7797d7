"""The lasting change against plain formulas, and what it finds that single steps do not."""

import math

import numpy as np
import pytest
import torch

from asced_core import DetectionSettings, detect
from asced_core.lasting import CONTRAST, KEPT, OUTSTANDING, SHRINKAGE, LastingChange, inverse_covariance, lasting_ratio


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 128])
def test_newtons_inverse_is_that_of_the_shrunk_covariance(channels, rng):
    mixing = torch.randn(channels, channels, generator=rng)
    value = (mixing @ torch.randn(2, channels, 30 * 30, generator=rng)).view(2, channels, 30, 30)
    for image, found in zip(value.double().numpy(), inverse_covariance(value).numpy(), strict=True):
        flat = image.reshape(channels, -1)
        covariance = np.cov(flat, bias=True).reshape(channels, channels)
        spread = np.trace(covariance) / channels
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * spread * np.eye(channels)
        np.testing.assert_allclose(found @ shrunk, np.eye(channels), atol=5e-3)


def test_the_distance_is_the_smaller_of_both_changes(rng):
    values = torch.randn(9, 1, 3, 12, 12, generator=rng)
    lasting = LastingChange()
    for value in values:
        lasting.push(value)
    precision = inverse_covariance(values[-1])[0].double().numpy()
    expected = []
    for earlier in (values[0], values[4]):
        change = (values[-1] - earlier)[0].double().numpy().reshape(3, -1)
        expected.append(np.sqrt(np.einsum("cn,cd,dn->n", change, precision, change) / 3))
    np.testing.assert_allclose(lasting.distance()[0].flatten().numpy(), np.minimum(*expected), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 13, 40, 200])
def test_few_values_are_kept_and_one_is_near_the_middle(count):
    lasting = LastingChange()
    for i in range(count):
        lasting.push(torch.full((1, 1, 2, 2), float(i)))
    kept = [int(v[0, 0, 0, 0]) for v in lasting._kept]
    assert len(kept) <= KEPT and kept[0] == 0
    middle = (count - 1) // 2
    assert abs(kept[middle // lasting._every] - middle) <= max(1, count // 4)


def test_without_a_value_there_is_no_distance():
    with pytest.raises(ValueError, match="at least one"):
        LastingChange().distance()


def test_no_more_cells_are_found_than_chebyshev_allows(rng):
    distance = torch.rand(4, 32, 32, generator=rng) ** 6 * 50
    for scale in (1.5, 3.0):
        share = (lasting_ratio(distance, scale) > 0).float().mean((1, 2))
        assert (share <= 1 / (scale * OUTSTANDING) ** 2).all() and (scale > 2 or share.max() > 0)
    assert not lasting_ratio(torch.full((1, 8, 8), 3 * CONTRAST * 0.99), 3.0).any()


def _moving_object(patch, weights, seed=0):
    """Frames [N,3,64,64]: a bright object forms, coloured along one axis; a patch is added with weights over time."""
    y, x = np.mgrid[:64, :64] - 32
    shape = torch.tensor(np.exp(-((x / 16) ** 4 + (y / 16) ** 4)), dtype=torch.float32)
    colour = torch.tensor([0.8, 0.7, 0.5]).view(3, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    frames = []
    for i, weight in enumerate(weights):
        texture = 0.15 * torch.randn(64, 64, generator=generator) * (1 - i / len(weights)) * shape
        frame = colour * (shape * (0.4 + 0.6 * i / len(weights)) + texture) - 0.5
        frame = frame + 0.01 * torch.randn(3, 64, 64, generator=generator)
        frames.append(frame + weight * patch)
    return torch.stack(frames)


def _patch():
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[26:38, 28:40] = True
    return mask.numpy(), 0.3 * torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1) * mask


LASTS, PASSES, NEVER = [0, 0, 0, 0, 0.5, 1, 1, 1], [0, 0, 0.5, 1, 1, 0.5, 0, 0], [0] * 8
SEEDS = range(8)


def test_a_patch_inside_a_moving_object_is_found_though_the_object_is_one_change():
    mask, patch = _patch()
    for seed in SEEDS:
        frames = _moving_object(patch, LASTS, seed)
        assert detect(frames).mask[mask].mean() > 0.9
        assert detect(frames, DetectionSettings(mode="reference", base_size=256)).mask[mask].mean() < 0.1
        assert not detect(_moving_object(patch, NEVER, seed)).mask.any()


def test_a_patch_that_is_taken_back_marks_little():
    """A tenth of what one that lasts marks, in all, and weakly, so that a score tells them apart.

    Not nothing: where the object's own texture has changed since the first value, and the patch stood in the middle
    one, both changes are large. That is one cell in four or five, scattered; few of them hang together.
    """
    _, patch = _patch()
    lasts, passes = ([detect(_moving_object(patch, weights, seed)) for seed in SEEDS] for weights in (LASTS, PASSES))
    assert sum(d.mask.sum() for d in passes) < 0.1 * sum(d.mask.sum() for d in lasts)
    assert max(d.score for d in passes) < 0.7 * min(d.score for d in lasts)


def test_what_is_found_does_not_depend_on_the_scale_of_the_signal():
    _, patch = _patch()
    frames = _moving_object(patch, LASTS)
    one, ten = (detect(frames * factor) for factor in (1, 8))
    assert one.mask.any() and np.array_equal(one.mask, ten.mask)
    assert math.isclose(one.score, ten.score, rel_tol=1e-3)
