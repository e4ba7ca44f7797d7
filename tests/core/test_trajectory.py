"""One run: its window, its decision, and the corrected state."""

import numpy as np
import pytest
import torch

from asced_core import (
    CorrectionSettings,
    DetectionSettings,
    DiscreteSchedule,
    Schedule,
    edm_level,
    find_window,
    item_generator,
)

from .runs import SIGMAS, frame_at, trajectory_of


def _run(trajectory, frames):
    """Feeds frames so that the planted jump is in the window; returns the state before and after the correction."""
    generator = torch.Generator().manual_seed(5)
    t_c = trajectory.schedule.window.decision
    for step in range(t_c + 1):
        frame = frame_at(frames, trajectory, step)
        x = frame + SIGMAS[step] * torch.randn(frame.shape, generator=generator)
        trajectory.observe(step, x, frame)
        assert trajectory.is_due(step) == (step == t_c)
    decision = trajectory.decide()
    assert not trajectory.is_due(t_c)
    return x, (trajectory.correct(decision, x, frame) if decision.acts else x)


def test_window_is_chosen_by_noise_level():
    sigmas = [*range(24, 0, -2), 0]
    window = find_window(sigmas, sigma_start=18, sigma_end=8)
    watched = sigmas[window.first : window.last + 1]
    assert watched == [18, 16, 14, 12, 10]  # T_c < t <= T_d
    assert sigmas[window.decision] == 8
    assert window.notes == ()


@pytest.mark.parametrize(
    ("sigmas", "reason"),
    [
        ([5.0, 0.0], "ends before"),
        ([1.0, 0.5, 0.0], "fewer than two steps"),
        ([10.0, 8.0, 6.0], "ends before"),
        ([0.0], "ends before"),
        ([0.1, 5.0, 10.0], "increase"),
    ],
)
def test_the_note_says_why_a_run_is_not_watched(sigmas, reason):
    window = find_window(sigmas, sigma_start=8, sigma_end=2)
    assert window.decision is None and window.last < window.first
    assert len(window.notes) == 1 and reason in window.notes[0]


def test_few_steps_cause_a_warning():
    window = find_window([10, 8, 6, 4, 1, 0], sigma_start=8, sigma_end=2)
    assert window.decision == 4 and "Few steps" in window.notes[0]


def test_only_the_artifact_region_of_the_flagged_image_changes(planted):
    trajectory = trajectory_of(correction=CorrectionSettings(expand=8), seed=7)
    before, after = _run(trajectory, planted(batch=3))
    assert trajectory.decision.corrected == [True, False, False]
    assert torch.equal(after[1:], before[1:])
    changed = (after[0] != before[0]).any(0)
    mask = trajectory.detections[0].mask
    assert (changed.numpy() | ~mask).all()  # the whole region
    assert changed.sum() < 3 * mask.sum()
    grown = np.argwhere(changed.numpy())
    found = np.argwhere(mask)
    assert (grown.min(0) == found.min(0) - 2).all() and (grown.max(0) == found.max(0) + 2).all()  # 8 px of 256


def test_the_region_is_re_noised_to_its_level(planted):
    trajectory = trajectory_of(correction=CorrectionSettings(gamma=0.0), seed=7)
    _before, after = _run(trajectory, planted())
    clean, mask = planted()[-1], trajectory.detections[0].mask
    noise = ((after - clean) / SIGMAS[trajectory.schedule.window.decision])[0][:, mask]
    own = torch.randn(after[0].shape, generator=item_generator(7, 0))[:, mask]
    torch.testing.assert_close(noise, own, atol=1e-4, rtol=0)


def test_the_noise_of_an_image_only_depends_on_its_index_and_the_seed(planted):
    frames = planted(batch=2)
    swapped = [f.flip(0) for f in frames]

    def corrected(frames, **more):
        return _run(trajectory_of(**more), frames)[1]

    state = torch.get_rng_state()
    first = corrected(frames, items=[4, 9], seed=3)[0]
    twin = trajectory_of(items=[9, 4], seed=3)
    noise_first = _noise_of(trajectory_of(items=[4, 9], seed=3), frames, image=0)
    noise_twin = _noise_of(twin, swapped, image=1)
    assert torch.equal(noise_first, noise_twin)
    assert not torch.equal(first, corrected(frames, items=[5, 9], seed=3)[0])
    assert not torch.equal(first, corrected(frames, items=[4, 9], seed=4)[0])
    assert torch.equal(first, corrected(frames, items=[4, 9], seed=3)[0])
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is untouched


def _noise_of(trajectory, frames, image):
    _, after = _run(trajectory, frames)
    mask = trajectory.detections[image].mask
    assert trajectory.decision.corrected[image]
    return ((after - frames[-1])[image] / SIGMAS[trajectory.schedule.window.decision]).round(decimals=3)[:, mask]


@pytest.mark.parametrize("correction", [CorrectionSettings(method="none"), CorrectionSettings(strength=0)])
def test_corrections_without_effect_return_the_state_itself(planted, correction):
    trajectory = trajectory_of(correction=correction)
    before, after = _run(trajectory, planted())
    assert after is before
    assert trajectory.detections[0].regions and trajectory.decision.corrected == [False]


def test_half_strength_keeps_part_of_the_noise_and_its_variance(planted):
    full, half = (_run(trajectory_of(correction=CorrectionSettings(strength=s)), planted()) for s in (1.0, 0.5))
    assert torch.equal(full[0], half[0])
    inside = full[1] != full[0]
    assert torch.equal(half[1] != half[0], inside)
    old, new, mixed = (((x - planted()[-1]) / 2.0)[inside] for x in (full[0], full[1], half[1]))
    torch.testing.assert_close(mixed, 0.75**0.5 * old + 0.5 * new, atol=1e-4, rtol=0)


def test_the_previous_source_uses_the_prediction_before_t_c(planted):
    frames = planted()
    frames = [*frames[:-1], frames[-1] + 100.0]  # the prediction at T_c; the window ends one step earlier
    window = trajectory_of().schedule.window
    frames = [frames[min(i, 6)] for i in range(window.decision - window.first)] + frames[-1:]
    inside = {}
    for source in ("previous", "current"):
        before, after = _run(trajectory_of(correction=CorrectionSettings(x0_source=source)), frames)
        changed = after != before
        assert changed.any()
        inside[source] = after[changed].mean()
    assert abs(inside["previous"]) < 10 and inside["current"] > 90


def test_the_current_source_needs_the_prediction_at_t_c(planted):
    trajectory = trajectory_of()
    _run(trajectory, planted())
    with pytest.raises(ValueError, match="current"):
        trajectory.correct(trajectory.decision, torch.zeros_like(planted()[0]))


def test_deciding_before_the_window_is_an_error():
    with pytest.raises(ValueError, match="nothing to decide"):
        trajectory_of().decide()


def test_the_noise_of_an_item_never_changes():
    """Changing these values would change every user's corrected images."""
    known = {
        (0, 0): [0.995619, 0.264238, 1.536166, 1.309226],
        (7, 3): [0.518759, 2.420896, -1.179114, -1.352489],
        (2**64 - 1, 1): [-1.008937, -0.618425, 0.638767, 0.757254],
    }
    for (seed, item), values in known.items():
        drawn = torch.randn(4, generator=item_generator(seed, item))
        torch.testing.assert_close(drawn, torch.tensor(values), atol=1e-6, rtol=0)


SD = DiscreteSchedule.from_alphas_cumprod(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).tolist())


def _schedule(begin, **percents):
    levels = [edm_level(SD.percent_to_sigma(p)) for p in np.linspace(begin, 0.98, 20)] + [edm_level(0.0)]
    return Schedule.of(levels, DetectionSettings(**percents), SD.percent_to_sigma)


@pytest.mark.parametrize(("start", "end"), [(0.2, 0.5), (0.1, 0.4)])
def test_the_percentages_of_the_settings_set_the_window(start, end):
    schedule = _schedule(0.0, start_percent=start, end_percent=end)
    percents = np.linspace(0, 0.98, 20)
    inside = [i for i, p in enumerate(percents) if start <= p < end]
    window = schedule.window
    assert (window.first, window.last, window.decision) == (inside[0], inside[-1], inside[-1] + 1)
    assert schedule.sigmas[-1] == 0 and schedule.steps == 20 and window.notes == ()


def test_a_run_that_starts_after_t_d_is_watched_for_the_same_share_of_the_rest():
    schedule = _schedule(0.6)
    window = schedule.window
    assert window.first == 0
    end = 1 - 0.5 * 0.4 / 0.8  # the schedule left is 0.5 at T_c, 0.8 at T_d and 0.4 at the start
    assert SD.percent_to_sigma(end) >= schedule.sigmas[window.decision] > SD.percent_to_sigma(end + 0.03)
    assert window.notes == ("This run starts at 60% of the noise schedule and is watched up to 75%.",)
