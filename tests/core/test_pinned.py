"""Rules and constants that no release may change unnoticed; each test kills a mutant that the others miss."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from asced_core import DetectionSettings, detect
from asced_core.baselines.clipping import ScoreClipping
from asced_core.detect.detection import to_cpu
from asced_core.detect.single_steps import PAPER, PLAIN, REFERENCE, SingleSteps
from asced_core.draw.heat import cividis
from asced_core.draw.overlay import HOTTEST, draw_overlay
from asced_core.report.calibration import LOWEST, first_marks

K = 2.0


def _expected(values, smooth, mean_floor, median_based):
    """Ratio [H,W] of values [N,C,H,W], computed from all of them without streaming."""
    changes = np.stack([smooth(np.abs(b - a)) for a, b in itertools.pairwise(values)])
    flat = changes.reshape(len(changes), -1)
    middle = np.median(flat, axis=1)
    mad = np.median(np.abs(flat - middle[:, None]), axis=1)
    threshold = middle + K * 1.4826 * mad if median_based else mad
    floor = changes.mean() if mean_floor else 0.0
    strongest = changes.max(1)
    above = np.where(strongest > threshold[:, None, None], strongest, 0.0)
    peak, when = above.max(0), above.argmax(0)  # the largest change above its own step's threshold
    found = (peak > 0) & (peak > floor)
    return np.where(found, peak / np.maximum(threshold[when], floor), 0.0)


@pytest.mark.parametrize("kind", ["reference", "paper", "plain"])
def test_the_score_of_a_cell_is_its_largest_change_over_that_steps_threshold(planted, kind):
    """Not the last change; and the threshold is at least the mean of all changes if the rule has that floor."""
    frames = torch.cat(planted(64, seed=3))
    if kind == "reference":
        frames = ((frames + 1) * 127.5).round()
        steps = SingleSteps(DetectionSettings("reference", mad_scale=K, base_size=256), (1, 3, 64, 64), frames.device)
        expected = _expected(frames.double().numpy(), lambda d: _mixed(gaussian_filter(d, (0, 0.5, 0.5))), False, True)
    elif kind == "paper":
        steps = SingleSteps(DetectionSettings("paper", mad_scale=K), (1, 3, 64, 64), frames.device)
        expected = _expected(frames.double().numpy(), lambda d: d, True, False)
    else:
        steps = SingleSteps(DetectionSettings(mad_scale=K), (1, 3, 64, 64), frames.device, rule=PLAIN)
        expected = _expected(frames.double().numpy(), lambda d: gaussian_filter(d, (0, 0.5, 0.5)), True, True)
    for frame in frames.split(1):
        steps.push_value(frame.float())
    ratio = to_cpu(steps.result())[0][0]
    same = (ratio > 0) == (expected > 0)
    assert same.mean() > 0.999 and (expected > 0).mean() > 0.02
    np.testing.assert_allclose(ratio[same], expected[same].clip(max=100), rtol=2e-3)


def _mixed(change):
    """The authors' smoothing over three channels, with the sigma for 64 pixels: 0.5."""
    return gaussian_filter(change, (0.5, 0, 0))


def test_scores_are_capped_at_100_if_the_threshold_is_zero():
    """A still image in which a few cells jump: MAD and median are 0."""
    frames = torch.zeros(3, 3, 64, 64)
    frames[2, :, 20:28, 20:28] = 0.5
    for mode in ("reference", "robust"):
        found = detect(frames, DetectionSettings(mode=mode, mad_scale=1e-6, base_size=256))
        assert found.ratio.max() == 100 and np.isfinite(found.ratio).all()
        assert found.score == (
            100 if mode == "reference" else 0
        )  # robust: the whole image is one region, which is too large


def test_the_rules_of_the_modes():
    """What each mode compares, as in the paper and the authors' code."""
    assert (REFERENCE.signal, REFERENCE.smooth, REFERENCE.mix_channels) == ("uint8", True, True)
    assert (REFERENCE.median_based, REFERENCE.mean_floor) == (True, False)
    assert (PAPER.signal, PAPER.smooth, PAPER.median_based, PAPER.mean_floor) == ("weighted_score", False, False, True)
    assert (PLAIN.signal, PLAIN.median_based, PLAIN.mean_floor) == ("denoised", True, True)


def test_calibration_rounds_marks_up():
    """Ratios are stored as float16: a mark may be slightly above the true threshold, never below it."""
    exact = 7.00195  # between two float16 numbers; stored as 7.0
    ratios = np.zeros((1, 64, 64), np.float16)
    ratios[0, 10:30, 10:30] = exact
    (mark,) = first_marks(ratios, DetectionSettings())
    assert LOWEST * exact <= mark <= LOWEST * exact * 1.002
    (nothing,) = first_marks(np.zeros((1, 64, 64), np.float16), DetectionSettings())
    assert nothing == np.float32(LOWEST)


def test_the_heat_map_ends_at_four_times_the_threshold_on_a_log_scale():
    assert HOTTEST == 4
    picture, mask = np.zeros((256, 256, 3), np.uint8), np.zeros((256, 256), bool)
    ratio = np.zeros((256, 256), np.float32)
    for place, value in enumerate((1.0, 2.0, 4.0, 50.0)):
        ratio[100:120, 40 * place : 40 * place + 20] = value
    drawn = draw_overlay(picture, mask, style="heat", opacity=1.0, ratio=ratio)
    shades = cividis(np.array([[0.0, 0.5, 1.0, 1.0]]))[0]
    for place, shade in enumerate(shades):
        assert np.array_equal(drawn[110, 40 * place + 10], shade)


def test_the_next_prediction_is_compared_with_the_clipped_one():
    """A jump must happen in small steps, so its second step is clipped again."""
    clip = ScoreClipping(DetectionSettings(mad_scale=3, base_size=300), (1, 1, 64, 64), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    calm = [0.01 * torch.rand(1, 1, 64, 64, generator=generator) for _ in range(3)]
    after = [frame.clone() for frame in calm]
    for frame in after[1:]:
        frame[..., 20:28, 20:28] += 1.0
    first, second, third = (clip(step, frame) for step, frame in enumerate(after))
    inside = np.s_[..., 20:28, 20:28]
    assert torch.equal(first, after[0])
    assert float(second[inside].max()) < 0.2
    assert 0 < float((third - second)[inside].max()) < 0.2, "compared with the clipped prediction"
    assert float(third[inside].max()) < 0.4


def test_colors_run_from_cividis_dark_blue_to_yellow():
    dark, middle, bright = cividis(np.array([[0.0, 0.5, 1.0]]))[0].astype(int)
    assert dark[2] > dark[0] + 30 and bright[0] > bright[2] + 100  # RGB, not BGR
    assert np.array_equal(cividis(np.array([[-1.0, 2.0]]))[0], [dark, bright])
    assert dark.sum() < middle.sum() < bright.sum()
