"""The streaming detectors compared with the plain formulas over all frames, for every dtype."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from asced_core import DetectionSettings, detect, edm_level
from asced_core.detect.detection import make_detector, to_cpu
from asced_core.detect.single_steps import PLAIN, SingleSteps


def _equation_4(values: np.ndarray) -> np.ndarray:
    """Eq. 4 without streaming: union of the raw masks over the steps, from all frames [N,C,H,W]."""
    changes = np.abs(np.diff(values.astype(np.float64), axis=0))
    union = np.zeros(values.shape[-2:], bool)
    for d in changes:
        threshold = max(np.median(np.abs(d - np.median(d))), changes.mean())
        union |= (d > threshold).any(axis=0)
    return union


@pytest.mark.parametrize("k", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("size", [64, 150])
def test_single_step_thresholds_follow_the_formula(planted, k, size):
    frames = torch.cat(planted(size, seed=3))
    steps = SingleSteps(DetectionSettings(mad_scale=k), (1, 3, size, size), frames.device, rule=PLAIN)
    for frame in frames.split(1):
        steps.push(frame)
    changes = np.abs(np.diff(frames.numpy().astype(np.float64), axis=0))
    changes = np.stack([gaussian_filter(d, (0, 2 * size / 256, 2 * size / 256)) for d in changes])
    flat = changes.reshape(len(changes), -1)
    medians = np.median(flat, axis=1)
    mads = np.median(np.abs(flat - medians[:, None]), axis=1)
    thresholds = np.maximum(medians + k * 1.4826 * mads, changes.mean())
    ratio, found, _ = to_cpu(steps.result())
    np.testing.assert_allclose(found[0], thresholds, rtol=1e-3)
    above = (changes > thresholds[:, None, None, None]).any((0, 1))
    assert np.mean((ratio[0] > 0) != above) < 1e-3  # float32 and float64 differ at the threshold
    strongest = np.where(above, changes.max(1).max(0), 0)
    assert np.all(ratio[0][above] <= strongest[above] / thresholds.min() * 1.001)


def test_paper_stream_equals_equation_4(planted, rng):
    frames = torch.cat(planted())
    levels = [edm_level(s) for s in np.linspace(8, 3, len(frames))]
    noise = torch.randn(1, *frames.shape[1:], generator=rng)
    detector = SingleSteps(DetectionSettings(mode="paper"), (1, *frames.shape[1:]), frames.device)
    scores = []
    for frame, level in zip(frames.split(1), levels, strict=True):
        x = frame + level.sigma * noise
        detector.push(frame, x, level)
        scores.append((level.weight * -((x - frame) / level.sigma**2))[0].numpy())
    ratio = to_cpu(detector.result())[0][0]
    expected = _equation_4(np.stack(scores))
    assert np.mean((ratio > 0) != expected) < 1e-3
    assert expected.mean() > 0.3  # why this mode is not for production: it flags the noise of the schedule itself
    direct = detect(torch.from_numpy(np.stack(scores)), DetectionSettings(mode="paper"))
    assert np.array_equal(direct.ratio > 0, ratio > 0)


def test_the_planted_square_is_detected(planted):
    found = detect(torch.cat(planted()), DetectionSettings(mad_scale=6))
    assert len(found.regions) == 1
    left, top, right, bottom = found.regions[0].box
    assert abs(left - 32) <= 2 and abs(top - 21) <= 2 and abs(right - 42) <= 2 and abs(bottom - 31) <= 2
    assert found.regions[0].area == found.mask.sum()
    assert found.score == found.regions[0].score > 1


@pytest.mark.parametrize("mode", ["robust", "reference"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_finds_the_same_region(planted, mode, dtype):
    settings = DetectionSettings(mode=mode, mad_scale=6, base_size=256)
    wide, narrow = (detect(torch.cat(planted()).to(d), settings) for d in (torch.float32, dtype))
    assert narrow.ratio.dtype == np.float32
    inside = (wide.mask & narrow.mask).sum() / (wide.mask | narrow.mask).sum()
    assert inside > 0.9


def test_the_result_for_an_image_does_not_depend_on_its_batch(planted):
    pair = planted(batch=2)
    settings = DetectionSettings()
    ratios = {}
    for name, frames in (("pair", pair), ("alone", [f[1:] for f in pair])):
        detector = make_detector(settings, tuple(frames[0].shape), frames[0].device)
        for frame in frames:
            detector.push(frame)
        ratios[name] = to_cpu(detector.result())[0]
    np.testing.assert_allclose(ratios["pair"][1], ratios["alone"][0], rtol=1e-6)


@pytest.mark.parametrize("mode", ["robust", "reference", "paper"])
def test_nan_and_constant_predictions_flag_nothing(mode):
    for value in (0.3, float("nan")):
        frames = torch.full((5, 3, 32, 32), value)
        found = detect(frames, DetectionSettings(mode=mode))
        assert not found.mask.any() and found.score == 0


def test_uint8_frames_work_in_both_layouts():
    levels = np.zeros((4, 64, 64), np.uint8)
    levels[2:, 20:40, 20:40] = 200
    gray = detect(levels, DetectionSettings(mode="reference"))
    color = detect(np.repeat(levels[..., None], 3, axis=-1), DetectionSettings(mode="reference"))
    assert gray.mask.any() and np.array_equal(gray.mask, color.mask)
    assert detect(levels, DetectionSettings()).mask.any()


@pytest.mark.parametrize(
    ("frames", "settings", "message"),
    [
        (np.zeros((1, 8, 8), np.uint8), DetectionSettings(), "at least two"),
        (np.zeros((8, 8), np.uint8), DetectionSettings(), "at least two"),
        (torch.zeros(3, 3, 0, 8), DetectionSettings(), "at least two"),
        (np.zeros((3, 8, 8), np.uint8), DetectionSettings(mode="paper"), "weighted scores"),
    ],
)
def test_invalid_frames_are_rejected(frames, settings, message):
    with pytest.raises(ValueError, match=message):
        detect(frames, settings)


@pytest.mark.parametrize("mode", ["robust", "reference", "paper"])
def test_a_detector_rejects_wrong_input(mode):
    detector = make_detector(DetectionSettings(mode=mode), (1, 3, 8, 8), torch.device("cpu"))
    with pytest.raises(ValueError, match="shape"):
        detector.push(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="at least two predictions"):
        detector.result()
    assert not detector.ready
    if mode == "paper":
        with pytest.raises(ValueError, match="state and its noise level"):
            detector.push(torch.zeros(1, 3, 8, 8))


def _cells(thing):
    """Number of values in all tensors of an object, nested ones included."""
    if isinstance(thing, torch.Tensor):
        return thing.numel()
    if isinstance(thing, (list, tuple)):
        return sum(map(_cells, thing))
    if type(thing).__module__.startswith("asced_core"):
        return sum(map(_cells, vars(thing).values()))
    return 0


@pytest.mark.parametrize(("mode", "a_step"), [("robust", 0), ("reference", 1), ("paper", 1)])
def test_detector_memory_does_not_grow_with_the_run(planted, mode, a_step):
    """After 16 and after 256 steps: each step adds its threshold and nothing else."""

    def cells(steps):
        detector = make_detector(DetectionSettings(mode=mode), (1, 3, 64, 64), torch.device("cpu"))
        for frame in planted(steps=steps):
            detector.push(frame, frame, edm_level(1.0))
        return _cells(detector)

    assert cells(16) > 3 * 64 * 64
    assert cells(256) - cells(16) == 240 * a_step
