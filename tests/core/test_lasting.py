"""The lasting change compared with plain formulas, and what it detects that single steps miss."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from asced_core import DetectionSettings, detect
from asced_core.detect.lasting import CHANGE, SHRINKAGE, LastingChange, inverse_covariance, newton_inverse
from asced_core.detect.memory import MOST, WindowMemory


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 128])
def test_the_shrunk_covariance_is_inverted(channels, rng):
    mixing = torch.randn(channels, channels, generator=rng)
    value = (mixing @ torch.randn(2, channels, 30 * 30, generator=rng)).view(2, channels, 30, 30)
    for image, found in zip(value.double().numpy(), inverse_covariance(value).numpy(), strict=True):
        flat = image.reshape(channels, -1)
        covariance = np.cov(flat, bias=True).reshape(channels, channels)
        spread = np.trace(covariance) / channels
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * spread * np.eye(channels)
        np.testing.assert_allclose(found @ shrunk, np.eye(channels), atol=5e-3)


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 128])
def test_newtons_method_inverts_what_the_shrinkage_bounds(channels, rng):
    """As on devices where an inverse by elimination would wait."""
    one_direction = torch.ones(channels, channels) / channels  # the worst case: all channels equal
    matrix = 5.0 * ((1 - SHRINKAGE) * channels * one_direction + SHRINKAGE * torch.eye(channels))[None]
    torch.testing.assert_close(newton_inverse(matrix) @ matrix, torch.eye(channels)[None], atol=5e-3, rtol=0)


def _lasting(side=12, scale=0.25, channels=3, **settings):
    settings = DetectionSettings(base_size=round(side / scale), **settings)
    return LastingChange(settings, (1, channels, side, side), torch.device("cpu"))


def test_the_share_is_the_smaller_change_divided_by_the_contrast(rng):
    """Compared with scipy: sigma 1 minus sigma 16 for the change, sigma 3 for the contrast, at scale 0.25."""
    values = torch.randn(8, 1, 3, 12, 12, generator=rng)
    lasting = _lasting()
    for value in values:
        lasting.push(value)
    precision = inverse_covariance(values[-1])[0].double().numpy()
    last, *earlier = (values[i][0].double().numpy() for i in (7, 0, 3))

    def distance(change):
        flat = change.reshape(3, -1)
        return np.sqrt(np.einsum("cn,cd,dn->n", flat, precision, flat) / 3).reshape(12, 12)

    def smooth(maps, sigma):
        return gaussian_filter(maps, (0,) * (maps.ndim - 2) + (sigma, sigma), mode="reflect")

    steps = [last - before for before in earlier]
    change = np.minimum(*(distance(smooth(step, 1) - smooth(step, 16)) for step in steps))
    contrast = distance(last - last.mean((1, 2), keepdims=True)) ** 2
    expected = change / (np.sqrt(smooth(contrast, 3)) + np.sqrt(contrast.mean()))
    np.testing.assert_allclose(lasting.share()[0].numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 13, 40, 200])
def test_few_values_are_kept_including_one_near_the_middle(count):
    memory = WindowMemory((1, 1, 2, 2))
    for i in range(count):
        memory.push(torch.full((1, 1, 2, 2), float(i)))
    first, middle, last = (int(v[0, 0, 0, 0]) for v in memory.three())
    assert (first, last) == (0, count - 1) and len(memory._kept) <= MOST
    assert abs(middle - (count - 1) // 2) <= (0 if count <= MOST else count // 4)


@pytest.mark.parametrize("count", [*range(1, 40), 200])
def test_a_known_number_of_values_needs_three_and_returns_the_same(count):
    """As many as announced, or one fewer: a decision that does not wait for T_c."""
    for number in {max(1, count - 1), count}:
        free, told, pair = WindowMemory(), WindowMemory(asked={count}), WindowMemory(asked={count - 1, count})
        for i in range(number):
            for memory in (free, told, pair):
                memory.push(torch.full((1, 1, 2, 2), float(i)))
        values = [[int(v[0, 0, 0, 0]) for v in memory.three()] for memory in (free, told, pair)]
        assert values[2] == values[0] and (number < count or values[1] == values[0])
        assert len(told._kept) <= 2 and len(pair._kept) <= 3


@pytest.mark.parametrize("mode", ["strict", "robust"])
def test_pictures_of_whole_numbers_are_measured_like_the_same_pictures_from_minus_1_to_1(mode):
    _, patch = _patch()
    levels = ((_moving_object(patch, LASTS) + 1) * 127.5).clamp(0, 255).byte()
    settings = DetectionSettings(mode=mode, mad_scale=2)
    whole, same = (detect(one, settings) for one in (levels.movedim(1, -1), levels.float() / 127.5 - 1))
    assert whole.mask.any() and np.array_equal(whole.labels, same.labels)
    np.testing.assert_allclose(whole.ratio, same.ratio, rtol=1e-5)


def test_the_share_needs_two_values():
    lasting = _lasting()
    lasting.push(torch.rand(1, 3, 12, 12))
    with pytest.raises(ValueError, match="at least two"):
        lasting.share()
    with pytest.raises(ValueError, match="at least one"):
        WindowMemory().three()


def test_a_change_counts_above_k_times_0_113_of_the_contrast(monkeypatch):
    """Every published figure depends on this constant, so no release may change it unnoticed."""
    assert CHANGE == 0.113
    lasting = _lasting(mad_scale=3.0)
    for value in torch.rand(2, 1, 3, 12, 12):
        lasting.push(value)
    share = torch.zeros(1, 12, 12)
    share[0, 0, :4] = torch.tensor([0.338, 0.340, 0.678, 90.0])  # 3 * 0.113 = 0.339
    monkeypatch.setattr(lasting, "share", lambda _: share)
    ratio = lasting.result().ratio[0, 0, :4]
    np.testing.assert_allclose(ratio.numpy(), [0, 0.340 / 0.339, 2.0, 100.0], rtol=1e-5)


def test_an_outline_that_only_sharpens_is_not_marked(rng):
    y, x = torch.meshgrid(*(torch.arange(64.0) - 32,) * 2, indexing="ij")
    radius = (x**2 + y**2).sqrt()
    frames = torch.stack([torch.sigmoid((16 - radius) / soft) for soft in (5, 4, 3.4, 3, 2.6, 2.3, 2, 1.8)])
    frames = frames[:, None].expand(-1, 3, -1, -1) + 0.005 * torch.randn(8, 3, 64, 64, generator=rng)
    assert not detect(frames).mask.any()


def _moving_object(patch, weights, seed=0):
    """Frames [N,3,64,64]: a bright object of one color forms; a patch is added with weights over time."""
    y, x = np.mgrid[:64, :64] - 32
    shape = torch.tensor(np.exp(-((x / 16) ** 4 + (y / 16) ** 4)), dtype=torch.float32)
    color = torch.tensor([0.8, 0.7, 0.5]).view(3, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    frames = []
    for i, weight in enumerate(weights):
        texture = 0.15 * torch.randn(64, 64, generator=generator) * (1 - i / len(weights)) * shape
        frame = color * (shape * (0.4 + 0.6 * i / len(weights)) + texture) - 0.5
        frame = frame + 0.01 * torch.randn(3, 64, 64, generator=generator)
        frames.append(frame + weight * patch)
    return torch.stack(frames)


def _patch():
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[26:38, 28:40] = True
    return mask.numpy(), 0.3 * torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1) * mask


LASTS, PASSES, NEVER = [0, 0, 0, 0, 0.5, 1, 1, 1], [0, 0, 0.5, 1, 1, 0.5, 0, 0], [0] * 8
SEEDS = range(8)


def test_a_patch_inside_a_changing_object_is_detected():
    mask, patch = _patch()
    for seed in SEEDS:
        frames = _moving_object(patch, LASTS, seed)
        assert detect(frames).mask[mask].mean() > 0.9
        assert detect(frames, DetectionSettings(mode="reference", base_size=256)).mask[mask].mean() < 0.1
        assert not detect(_moving_object(patch, NEVER, seed)).mask.any()


def test_a_patch_that_disappears_again_is_marked_weakly():
    """The score separates it from a lasting patch.

    It is not unmarked: where the object's own texture has changed since the first value, and the middle value contains
    the patch, both changes are large.
    """
    _, patch = _patch()
    lasts, passes = ([detect(_moving_object(patch, weights, seed)) for seed in SEEDS] for weights in (LASTS, PASSES))
    assert max(d.score for d in passes) < 0.6 * min(d.score for d in lasts)


def test_detection_does_not_depend_on_the_scale_of_the_signal():
    _, patch = _patch()
    frames = _moving_object(patch, LASTS)
    one, ten = (detect(frames * factor) for factor in (1, 8))
    assert one.mask.any() and np.array_equal(one.mask, ten.mask)
    assert math.isclose(one.score, ten.score, rel_tol=1e-3)
