"""One run: its window, its decision, and what it hands back."""

import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings, Trajectory, edm_level, find_window, item_generator

SIGMAS = [*np.geomspace(80, 0.05, 25).tolist(), 0.0]


def _trajectory(correction=None, detection=None, sigmas=SIGMAS, **more):
    levels = [edm_level(s) for s in sigmas]
    return Trajectory(
        detection or DetectionSettings(mad_scale=6),
        correction or CorrectionSettings(),
        sigmas,
        sigma_start=20.0,
        sigma_end=2.0,
        levels=levels,
        **more,
    )


def _run(trajectory, frames):
    """Feeds frames so that the planted jump lies in the window; gives the state before and after T_c."""
    generator = torch.Generator().manual_seed(5)
    first, t_c = trajectory.window.first, trajectory.window.decision
    for step in range(t_c + 1):
        frame = frames[min(max(0, step - first), len(frames) - 1)]
        x = frame + trajectory.sigmas[step] * torch.randn(frame.shape, generator=generator)
        trajectory.observe(step, x, frame)
        assert trajectory.is_due(step) == (step == t_c)
    acted = trajectory.decide()
    return x, (trajectory.correct(x, frame) if acted else x)


def test_window_is_chosen_by_noise_level():
    sigmas = [*range(24, 0, -2), 0]
    window = find_window(sigmas, sigma_start=18, sigma_end=8)
    watched = sigmas[window.first : window.last + 1]
    assert watched == [18, 16, 14, 12, 10]  # T_c < t <= T_d
    assert sigmas[window.decision] == 8
    assert window.notes == ()


@pytest.mark.parametrize(
    ("sigmas", "word"),
    [
        ([5.0, 0.0], "ends before"),
        ([1.0, 0.5, 0.0], "fewer than two steps"),
        ([10.0, 8.0, 6.0], "ends before"),
        ([0.0], "ends before"),
        ([0.1, 5.0, 10.0], "rise"),
    ],
)
def test_runs_that_cannot_be_watched_say_why(sigmas, word):
    window = find_window(sigmas, sigma_start=8, sigma_end=2)
    assert window.decision is None and window.last < window.first
    assert len(window.notes) == 1 and word in window.notes[0]


def test_few_steps_are_warned_of():
    window = find_window([10, 8, 6, 4, 1, 0], sigma_start=8, sigma_end=2)
    assert window.decision == 4 and "Few steps" in window.notes[0]


def test_only_the_artifact_region_of_the_flagged_image_changes(planted):
    trajectory = _trajectory(CorrectionSettings(expand=8), seed=7)
    before, after = _run(trajectory, planted(batch=3))
    assert trajectory.corrected == [True, False, False]
    assert torch.equal(after[1:], before[1:])
    changed = (after[0] != before[0]).any(0)
    mask = trajectory.detections[0].mask
    assert (changed.numpy() | ~mask).all()  # the whole region
    assert changed.sum() < 3 * mask.sum()
    grown = np.argwhere(changed.numpy())
    found = np.argwhere(mask)
    assert (grown.min(0) == found.min(0) - 2).all() and (grown.max(0) == found.max(0) + 2).all()  # 8 px of 256


def test_region_is_renoised_to_its_level(planted):
    trajectory = _trajectory(CorrectionSettings(gamma=0.0), seed=7)
    _before, after = _run(trajectory, planted())
    clean, mask = planted()[-1], trajectory.detections[0].mask
    noise = ((after - clean) / trajectory.sigmas[trajectory.window.decision])[0][:, mask]
    own = torch.randn(after[0].shape, generator=item_generator(7, 0))[:, mask]
    torch.testing.assert_close(noise, own, atol=1e-4, rtol=0)


def test_noise_of_an_image_depends_on_its_index_and_seed_alone(planted):
    frames = planted(batch=2)
    swapped = [f.flip(0) for f in frames]

    def corrected(frames, **more):
        return _run(_trajectory(**more), frames)[1]

    state = torch.get_rng_state()
    first = corrected(frames, items=[4, 9], seed=3)[0]
    twin = _trajectory(items=[9, 4], seed=3)
    noise_first = _noise_of(_trajectory(items=[4, 9], seed=3), frames, image=0)
    noise_twin = _noise_of(twin, swapped, image=1)
    assert torch.equal(noise_first, noise_twin)
    assert not torch.equal(first, corrected(frames, items=[5, 9], seed=3)[0])
    assert not torch.equal(first, corrected(frames, items=[4, 9], seed=4)[0])
    assert torch.equal(first, corrected(frames, items=[4, 9], seed=3)[0])
    assert torch.equal(torch.get_rng_state(), state)  # the global generator never moved


def _noise_of(trajectory, frames, image):
    _, after = _run(trajectory, frames)
    mask = trajectory.detections[image].mask
    assert trajectory.corrected[image]
    return ((after - frames[-1])[image] / trajectory.sigmas[trajectory.window.decision]).round(decimals=3)[:, mask]


@pytest.mark.parametrize("correction", [CorrectionSettings(method="none"), CorrectionSettings(strength=0)])
def test_corrections_that_do_nothing_hand_nothing_back(planted, correction):
    trajectory = _trajectory(correction)
    before, after = _run(trajectory, planted())
    assert after is before
    assert trajectory.detections[0].regions and trajectory.corrected == [False]


def test_half_strength_keeps_a_part_of_the_noise_and_its_variance(planted):
    full, half = (_run(_trajectory(CorrectionSettings(strength=s)), planted()) for s in (1.0, 0.5))
    assert torch.equal(full[0], half[0])
    inside = full[1] != full[0]
    assert torch.equal(half[1] != half[0], inside)
    old, new, mixed = (((x - planted()[-1]) / 2.0)[inside] for x in (full[0], full[1], half[1]))
    torch.testing.assert_close(mixed, 0.75**0.5 * old + 0.5 * new, atol=1e-4, rtol=0)


def test_previous_source_takes_the_prediction_before(planted):
    frames = planted()
    trajectory = _trajectory(CorrectionSettings(x0_source="previous"))
    last = trajectory.window.last
    first = trajectory.window.first
    _run(trajectory, frames)
    assert torch.equal(trajectory._previous, frames[min(last - first, len(frames) - 1)])
    other = _trajectory()
    _run(other, frames)
    with pytest.raises(ValueError, match="current"):
        other.correct(torch.zeros_like(frames[0]))


def test_calls_in_a_wrong_order_are_refused(planted):
    trajectory = _trajectory()
    with pytest.raises(ValueError, match="nothing to decide"):
        trajectory.decide()
    with pytest.raises(ValueError, match="decide"):
        trajectory.correct(planted()[0], planted()[0])


def test_a_seed_may_be_any_64_bit_number():
    for seed in (0, 2**64 - 1, 2**63):
        assert torch.randn(1, generator=item_generator(seed, 3)).isfinite()
