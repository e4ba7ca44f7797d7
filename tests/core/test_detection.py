"""The stream against the plain formulas over all frames, on every dtype."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from asced_core import DetectionSettings, detect, edm_level
from asced_core.detect.detection import read_bank
from asced_core.detect.single_steps import ScoreBank


def _by_the_book(values: np.ndarray) -> np.ndarray:
    """Eq. 4: union over steps of the raw mask, with all frames [N,C,H,W] at hand and no stream."""
    changes = np.abs(np.diff(values.astype(np.float64), axis=0))
    union = np.zeros(values.shape[-2:], bool)
    for d in changes:
        threshold = max(np.median(np.abs(d - np.median(d))), changes.mean())
        union |= (d > threshold).any(axis=0)
    return union


@pytest.mark.parametrize("k", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("size", [64, 150])
def test_robust_records_the_changes_of_single_steps_by_their_formula(planted, k, size):
    frames = torch.cat(planted(size, seed=3))
    found = detect(frames, DetectionSettings(mad_scale=k))
    changes = np.abs(np.diff(frames.numpy().astype(np.float64), axis=0))
    changes = np.stack([gaussian_filter(d, (0, 2 * size / 256, 2 * size / 256)) for d in changes])
    flat = changes.reshape(len(changes), -1)
    medians = np.median(flat, axis=1)
    mads = np.median(np.abs(flat - medians[:, None]), axis=1)
    thresholds = medians + k * 1.4826 * mads
    abnormal = [(d > t).any(axis=0).mean() for d, t in zip(changes, thresholds, strict=True)]
    np.testing.assert_allclose(found.thresholds, thresholds, rtol=1e-3)
    np.testing.assert_allclose(found.abnormal, abnormal, atol=1e-3)  # float32 beside float64 at the threshold
    assert found.floor == pytest.approx(changes.mean(), rel=1e-4)


def test_paper_stream_equals_equation_4(planted, rng):
    frames = torch.cat(planted())
    levels = [edm_level(s) for s in np.linspace(8, 3, len(frames))]
    noise = torch.randn(1, *frames.shape[1:], generator=rng)
    bank = ScoreBank(DetectionSettings(mode="paper"), (1, *frames.shape[1:]), frames.device)
    scores = []
    for frame, level in zip(frames.split(1), levels, strict=True):
        x = frame + level.sigma * noise
        bank.push(frame, x, level)
        scores.append((level.weight * -((x - frame) / level.sigma**2))[0].numpy())
    found = read_bank(bank.result(), DetectionSettings(mode="paper"))[0]
    expected = _by_the_book(np.stack(scores))
    assert np.mean(found.raw_mask != expected) < 1e-3
    assert expected.mean() > 0.3  # why this mode is not for use: it flags the schedule's own noise
    direct = detect(torch.from_numpy(np.stack(scores)), DetectionSettings(mode="paper"))
    assert np.array_equal(direct.raw_mask, found.raw_mask)


def test_the_planted_square_is_found(planted):
    found = detect(torch.cat(planted()), DetectionSettings(mad_scale=6))
    assert len(found.regions) == 1
    left, top, right, bottom = found.regions[0].box
    assert abs(left - 32) <= 2 and abs(top - 21) <= 2 and abs(right - 42) <= 2 and abs(bottom - 31) <= 2
    assert found.regions[0].area == found.mask.sum()
    assert found.score == found.regions[0].score > 1
    assert found.abnormal.max() >= found.mask.mean()


@pytest.mark.parametrize("mode", ["robust", "reference"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_finds_the_same_region(planted, mode, dtype):
    settings = DetectionSettings(mode=mode, mad_scale=6, base_size=256)
    wide, narrow = (detect(torch.cat(planted()).to(d), settings) for d in (torch.float32, dtype))
    assert narrow.thresholds.dtype == np.float32
    inside = (wide.mask & narrow.mask).sum() / (wide.mask | narrow.mask).sum()
    assert inside > 0.9


def test_an_image_does_not_depend_on_its_batch_mates(planted):
    pair, alone = planted(batch=2), None
    settings = DetectionSettings()
    banks = {}
    for name, frames in (("pair", pair), ("alone", [f[1:] for f in pair])):
        bank = ScoreBank(settings, tuple(frames[0].shape), frames[0].device)
        for frame in frames:
            bank.push(frame)
        banks[name] = read_bank(bank.result(), settings)
    pair, alone = banks["pair"][1], banks["alone"][0]
    assert np.array_equal(pair.raw_mask, alone.raw_mask)
    np.testing.assert_allclose(pair.thresholds, alone.thresholds, rtol=1e-6)


@pytest.mark.parametrize("mode", ["robust", "reference", "paper"])
def test_nan_and_constant_predictions_flag_nothing(mode):
    for value in (0.3, float("nan")):
        frames = torch.full((5, 3, 32, 32), value)
        found = detect(frames, DetectionSettings(mode=mode))
        assert not found.mask.any() and found.score == 0


def test_uint8_frames_of_each_layout():
    levels = np.zeros((4, 64, 64), np.uint8)
    levels[2:, 20:40, 20:40] = 200
    grey = detect(levels, DetectionSettings(mode="reference"))
    colour = detect(np.repeat(levels[..., None], 3, axis=-1), DetectionSettings(mode="reference"))
    assert grey.mask.any() and np.array_equal(grey.mask, colour.mask)
    assert detect(levels, DetectionSettings()).mask.any()


@pytest.mark.parametrize(
    ("frames", "settings", "word"),
    [
        (np.zeros((1, 8, 8), np.uint8), DetectionSettings(), "at least two"),
        (np.zeros((8, 8), np.uint8), DetectionSettings(), "at least two"),
        (torch.zeros(3, 3, 0, 8), DetectionSettings(), "at least two"),
        (np.zeros((3, 8, 8), np.uint8), DetectionSettings(mode="paper"), "weighted scores"),
    ],
)
def test_frames_that_make_no_sense_are_refused(frames, settings, word):
    with pytest.raises(ValueError, match=word):
        detect(frames, settings)


def test_bank_refuses_what_does_not_fit():
    bank = ScoreBank(DetectionSettings(mode="paper"), (1, 3, 8, 8), torch.device("cpu"))
    with pytest.raises(ValueError, match="shape"):
        bank.push(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="state and its noise level"):
        bank.push(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="at least two predictions"):
        bank.result()
    assert bank.differences == 0


def test_memory_of_the_bank_does_not_grow_with_the_run(planted):
    """Counts the cells that all reachable tensors of a bank hold after 5 and after 50 steps."""

    def cells(steps: int) -> int:
        bank = ScoreBank(DetectionSettings(), (1, 3, 64, 64), torch.device("cpu"))
        for frame in planted(steps=steps):
            bank.push(frame)
        tensors = [v for v in vars(bank).values() if isinstance(v, torch.Tensor)]
        tensors += [t for v in vars(bank).values() if isinstance(v, list) for t in v]
        return sum(t.numel() for t in tensors)

    assert cells(50) - cells(5) == 45 * 4  # four statistics a step


def test_recorded_thresholds_of_large_maps_are_those_of_all_cells(rng):
    """Where the maps are smooth over more, robust looks at one row and column in two."""
    frames = [torch.rand(1, 3, 512, 512, generator=rng).cumsum(-1) * 0.01 for _ in range(3)]
    seen = {}
    for thin in (1, 2):
        bank = ScoreBank(DetectionSettings(), (1, 3, 512, 512), frames[0].device)
        assert bank._thin == 2
        bank._thin = thin
        for frame in frames:
            bank.push_value(frame)
        seen[thin] = bank.result()
    np.testing.assert_allclose(seen[2].steps, seen[1].steps, rtol=0.01)
    assert torch.equal(seen[2].ratio, seen[1].ratio)
    for mode in ("reference", "paper"):
        assert ScoreBank(DetectionSettings(mode=mode), (1, 3, 512, 512), frames[0].device)._thin == 1
