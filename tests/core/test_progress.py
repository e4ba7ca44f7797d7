"""What a run tells while it goes on."""

import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings, Trajectory, edm_level
from asced_core.progress import marked_so_far, state_in_words

SIGMAS = [*np.geomspace(80, 0.05, 25).tolist(), 0.0]


def _run(jump=True, sigmas=SIGMAS, last=2.0, mode="robust", **correction):
    """A calm run of two images; the first one's middle jumps in the window. Yields (step, trajectory)."""
    levels = [edm_level(s) for s in sigmas]
    detection = DetectionSettings(mode, min_area=100, max_area=4000, base_size=64)
    trajectory = Trajectory(detection, CorrectionSettings(**correction), sigmas, 20.0, 2.0, levels, sigma_last=last)
    generator = torch.Generator().manual_seed(0)
    for step in range(len(sigmas) - 1):
        denoised = 0.01 * torch.randn(2, 3, 64, 64, generator=generator)
        if jump and step >= 7:
            denoised[0, :, 20:40, 20:40] += step % 2 * 2.0
        trajectory.observe(step, denoised, denoised)
        if trajectory.is_due(step) and trajectory.decide():
            trajectory.correct(denoised, denoised)
        yield step, trajectory


def test_words_of_a_corrected_run():
    words = [state_in_words(t, step) for step, t in _run()]
    window = next(t for _, t in _run()).window
    assert words[0] == f"Watching starts at step {window.first + 1} of 25"
    assert words[window.first : window.decision] == [
        f"Watching, step {step + 1} of 25" for step in range(window.first, window.decision)
    ]
    assert set(words[window.decision :]) == {f"1 region, corrected at step {window.decision + 1}"}


@pytest.mark.parametrize(
    ("options", "expected"), [({"jump": False}, "Clean"), ({"method": "none"}, "1 region, only watched")]
)
def test_words_of_other_ends(options, expected):
    assert [state_in_words(t, step) for step, t in _run(**options)][-1] == expected


def test_words_of_further_rounds():
    again = {"mode": "reference", "rounds": 2, "last": 0.5}  # the square jumps at every step
    words = [state_in_words(t, step) for step, t in _run(**again)]
    first, second = next(t for _, t in _run(**again)).window.decisions
    assert words[first + 1] == f"1 region, corrected at step {first + 1}; watching, step {first + 2} of 25"
    assert words[-1] == f"2 regions, corrected at step {first + 1} and {second + 1}"


def test_a_run_that_is_not_watched_says_why():
    _, trajectory = next(_run(sigmas=[1.0, 0.5, 0.0]))
    assert state_in_words(trajectory, 0).startswith("Not watched: this run of 2 steps")
    assert marked_so_far(trajectory) is None


def test_the_marks_grow_with_the_window_and_end_as_the_regions():
    seen = {step: (marked_so_far(t), marked_so_far(t, 1)) for step, t in _run()}
    window = next(t for _, t in _run()).window
    assert seen[0] == (None, None)
    assert seen[window.first][0] is None  # one prediction has no change
    first, other = seen[window.last]
    assert first[25:35, 25:35].all() and first.mean() < 0.3
    assert not other[25:35, 25:35].all()
    final = seen[24][0]
    assert final[25:35, 25:35].all() and not final[:10].any()
    assert not seen[24][1].any()
