"""Live marks and status texts of a run in progress."""

import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.detect.detection import make_detector
from asced_core.progress import marked_so_far, status_text

from .runs import SIGMAS, trajectory_of


def _run(jump=True, sigmas=SIGMAS, mode="robust", find=None, **correction):
    """A calm run of two images; the middle of the first one jumps in the window. Yields (step, trajectory)."""
    detection = DetectionSettings(mode, min_area=100, max_area=4000, base_size=64)
    trajectory = trajectory_of(detection, CorrectionSettings(**correction), sigmas=sigmas, find=find)
    generator = torch.Generator().manual_seed(0)
    for step in range(len(sigmas) - 1):
        denoised = 0.01 * torch.randn(2, 3, 64, 64, generator=generator)
        if jump and step >= 7:
            denoised[0, :, 20:40, 20:40] += step % 2 * 2.0
        trajectory.observe(step, denoised, denoised)
        if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
            trajectory.correct(decision, denoised, denoised)
        yield step, trajectory


def _window():
    return next(t for _, t in _run()).schedule.window


def test_status_of_a_corrected_run():
    texts, window = [status_text(t, step) for step, t in _run()], _window()
    assert texts[0] == f"Watching starts at step {window.first + 1} of 25"
    assert texts[window.first : window.decision] == [
        f"Watching, step {step + 1} of 25" for step in range(window.first, window.decision)
    ]
    assert set(texts[window.decision :]) == {f"1 region, corrected at step {window.decision + 1}"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"jump": False}, "Clean"),
        ({"method": "none"}, "1 region, not corrected"),
        ({"method": "clip"}, "1 region, method clip acted on every step of the window"),
    ],
)
def test_final_status_of_other_runs(options, expected):
    assert [status_text(t, step) for step, t in _run(**options)][-1] == expected


def test_a_costly_detector_does_not_run_at_every_step():
    calls = []
    find = lambda images: calls.append(1) or np.ones((2, 64, 64), bool)  # noqa: E731
    seen = [marked_so_far(t) for _, t in _run(find=find)]
    assert len(calls) == 1 and seen[_window().last] is None and seen[-1].all()


@pytest.mark.parametrize("mode", ["strict", "robust", "reference"])
@pytest.mark.parametrize("smooth_frames", [0.0, 1.0])
def test_what_is_shown_of_one_image_is_what_was_found_in_it(mode, smooth_frames):
    detector = make_detector(
        DetectionSettings(mode=mode, smooth_frames=smooth_frames), (4, 3, 64, 64), torch.device("cpu"), 2
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        denoised = 0.1 * torch.randn(4, 3, 64, 64, generator=generator)
        denoised[2, :, 20:40, 20:40] += 2.0 if step > 2 else 0.0
        detector.push(denoised)
    found = detector.result().ratio > 0
    assert found[2].any()
    assert torch.equal(torch.stack([detector.so_far(image) for image in range(4)]), found)


def test_the_status_of_an_unwatched_run_gives_the_reason():
    _, trajectory = next(_run(sigmas=[1.0, 0.5, 0.0]))
    assert status_text(trajectory, 0).startswith("Not watched: this run of 2 steps")
    assert marked_so_far(trajectory) is None


def test_marks_accumulate_in_the_window_and_become_the_regions():
    seen = {step: (marked_so_far(t), marked_so_far(t, 1)) for step, t in _run()}
    window = _window()
    assert seen[0] == (None, None)
    assert seen[window.first][0] is None  # one prediction has no change
    first, other = seen[window.last]
    assert first[25:35, 25:35].all() and first.mean() < 0.3
    assert not other[25:35, 25:35].all()
    final = seen[24][0]
    assert final[25:35, 25:35].all() and not final[:10].any()
    assert not seen[24][1].any()
