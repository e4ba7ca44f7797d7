"""Predictions that a report keeps, so that a detector can learn from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from asced_core import RunFacts
from asced_core.report.joining import joined
from asced_core.report.selection import part_of
from asced_core.report.stitching import Tile, stitch

from .runs import trajectory_of


def _report(frames=1, keep=True, seed=0):
    trajectory = trajectory_of(keep_predictions=keep)
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 3, frames, 16, 16) if frames > 1 else (4, 3, 16, 16)
    predictions = [torch.randn(shape, generator=generator) for _ in range(25)]
    for step, denoised in enumerate(predictions):
        trajectory.observe(step, denoised, denoised)
        if trajectory.is_due(step):
            trajectory.decide()
    return trajectory.report(RunFacts(frames=frames)), predictions, trajectory.schedule.window


def test_first_middle_and_last_prediction_are_kept_if_asked():
    report, predictions, window = _report()
    assert report.predictions.dtype == np.float16 and report.predictions.shape == (4, 3, 3, 16, 16)
    middle = window.first + (window.decision - window.first) // 2
    for place, step in enumerate((window.first, middle, window.decision)):
        assert np.array_equal(report.predictions[:, place], predictions[step].half().numpy())
    assert _report(keep=False)[0].predictions is None
    assert "predictions" not in report.to_dict()


def test_a_corrected_state_is_not_what_is_learned_from():
    trajectory = trajectory_of(keep_predictions=True)
    _, predictions, window = _report()
    for step, denoised in enumerate(predictions):
        trajectory.observe(step, denoised, denoised)
        if trajectory.is_due(step):
            trajectory.decide()
            trajectory.observe(step, denoised, denoised + 5)  # the sampler repeats the step
    kept = trajectory.report(RunFacts()).predictions[:, 2]
    assert np.array_equal(kept, predictions[window.decision].half().numpy())


def test_the_frames_of_a_video_are_kept_one_by_one():
    report, predictions, window = _report(frames=2)
    assert report.predictions.shape == (8, 3, 3, 16, 16)
    assert np.array_equal(report.predictions[3, 0], predictions[window.first][1, :, 1].half().numpy())
    part = part_of(report, [2])
    assert np.array_equal(part.predictions, report.predictions[4:6])


def test_predictions_follow_their_images():
    report, other = _report()[0], _report(seed=1)[0]
    assert np.array_equal(part_of(report, [3, 0]).predictions, report.predictions[[3, 0]])
    both = joined([report, other])
    assert np.array_equal(both.predictions, np.concatenate([report.predictions, other.predictions]))
    without = replace(report, predictions=None)
    assert joined([report, without]).predictions is None and part_of(without, [1]).predictions is None


def test_a_stitched_image_has_no_predictions():
    """Each tile had its own."""
    whole = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stitched = stitch(whole, [Tile(whole[:32, :32], _report()[0], 0)])
    assert stitched.predictions is None and len(stitched.images) == 1


@pytest.mark.parametrize("count", [2, 5, 40])
def test_a_long_window_takes_no_more_memory(count):
    from asced_core.detect.memory import MOST, WindowMemory

    memory = WindowMemory()
    for number in range(count):
        memory.push(torch.full((1, 1, 2, 2), float(number)))
    first, middle, last = (float(one.mean()) for one in memory.three())
    assert len(memory._kept) <= MOST and (first, last) == (0.0, count - 1) and abs(middle - (count - 1) / 2) <= 8
    with pytest.raises(ValueError, match="Expected a prediction of shape"):
        memory.push(torch.zeros(1, 1, 3, 3))
