"""The decision before the model is called at T_c: the same regions, and no added call."""

import pytest
import torch

from asced_core import (
    CorrectionSettings,
    DetectionSettings,
    DiscreteSchedule,
    FlowSchedule,
    RunFacts,
    Trajectory,
    edm_level,
    flow_level,
    vp_level,
)
from asced_core.noise import next_state

from .runs import frame_at, trajectory_of

PREVIOUS = CorrectionSettings(x0_source="previous")
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
TRAINING = DiscreteSchedule.from_alphas_cumprod((1 - BETAS).cumprod(0).tolist())
IMAGE = 0.2 * torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))


def model(x, ratio, calls=None):
    """The first image gets an artifact in the middle of the run, wherever it is asked for with its own noise."""
    if calls is not None:
        calls.append(ratio)
    denoised = IMAGE.clone()
    if ratio < 3:
        denoised[0, :, 20:32, 30:42] += 1.0
    return denoised


def sample(levels, training, correction, seed=7):
    """DDIM with a trajectory in it; the final state, the number of model calls, and the trajectory."""
    trajectory, calls = Trajectory.begin(levels, training, correction=correction, seed=seed), []
    ratio = (lambda v: 3.6 * v.sigma) if isinstance(training, FlowSchedule) else (lambda v: v.sigma / v.alpha)
    x = levels[0].sigma * torch.randn(IMAGE.shape, generator=torch.Generator().manual_seed(1)) + levels[0].alpha * IMAGE
    for step, level in enumerate(levels[:-1]):
        denoised = model(x, ratio(level), calls)
        trajectory.observe(step, x, denoised)
        if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
            x = trajectory.correct(decision, x, denoised)
            denoised = model(x, ratio(level), calls)
            trajectory.observe(step, x, denoised)
        x = next_state(x, denoised, level, levels[step + 1])
        if trajectory.is_due_early(step) and (decision := trajectory.decide()).acts:
            x = trajectory.correct(decision, x)
    return x, len(calls), trajectory


def in_scale(scale):
    sigmas = [TRAINING.percent_to_sigma(i / 25) for i in range(25)]
    if scale == "flow":
        return [*(flow_level(FlowSchedule(3.0).percent_to_sigma(i / 25)) for i in range(25)), flow_level(0.0)]
    if scale == "vp":
        return [*(vp_level(1 / (1 + s * s)) for s in sigmas), vp_level(1.0)]
    return [*(edm_level(s) for s in sigmas), edm_level(0.0)]


@pytest.mark.parametrize("scale", ["edm", "vp", "flow"])
def test_previous_costs_no_model_call_in_any_scale(scale):
    levels, training = in_scale(scale), FlowSchedule(3.0) if scale == "flow" else TRAINING
    late, late_calls, current = sample(levels, training, CorrectionSettings())
    early, early_calls, previous = sample(levels, training, PREVIOUS)
    assert (late_calls, early_calls) == (26, 25)
    ours, theirs = previous.decision, current.decision
    assert ours.step == theirs.step and torch.equal(*(torch.from_numpy(d.masks) for d in (ours, theirs)))
    assert ours.corrected == [True, False] and ours.detections[0].regions[0].box == (30, 20, 42, 32)
    assert torch.equal(early[1], late[1])
    report = previous.report(RunFacts("ddim", 7))
    assert report.corrected_steps == (ours.step,) and report.images[0].corrected


def test_the_window_is_the_same_in_every_scale_of_one_model():
    vp, edm = (Trajectory.begin(in_scale(scale), TRAINING).schedule for scale in ("vp", "edm"))
    assert vp.window == edm.window and vp.sigmas != edm.sigmas


def test_it_is_decided_once_and_only_where_nothing_of_the_decision_step_is_needed(planted):
    def due(correction, **options):
        trajectory = trajectory_of(correction=correction, **options)
        steps = []
        for step in range(25):
            frame = frame_at(planted(), trajectory, step)
            trajectory.observe(step, frame, frame)
            if trajectory.is_due_early(step):
                steps.append(step)
                trajectory.decide()
            assert not (steps and trajectory.is_due(step))
        return steps, trajectory.schedule.window.decision

    steps, decision = due(PREVIOUS)
    assert steps == [decision - 1]
    assert due(CorrectionSettings())[0] == [] == due(CorrectionSettings(method="none", x0_source="previous"))[0]
    assert due(PREVIOUS, keep_predictions=True)[0] == []  # they include the one at T_c
    whole = lambda images: torch.ones(len(images), *images.shape[2:], dtype=torch.bool)  # noqa: E731
    assert due(PREVIOUS, find=whole)[0] == []  # it looks at the prediction at T_c


def test_nothing_found_changes_nothing(planted):
    frame = planted()[0]
    trajectory = trajectory_of(correction=PREVIOUS)
    for step in range(25):
        trajectory.observe(step, frame, frame)
        if trajectory.is_due_early(step):
            decision = trajectory.decide()
    assert not decision.acts and not decision.places(frame).any()


def test_places_are_the_corrected_items_of_any_state():
    _, _, trajectory = sample(in_scale("edm"), TRAINING, PREVIOUS)
    places = trajectory.decision.places(IMAGE)
    assert places.shape == (2, 1, 1, 1) and places.flatten().tolist() == [True, False]
    assert trajectory.decision.places(torch.zeros(2, 4, 1, 8, 8)).ndim == 5


@pytest.mark.parametrize(
    ("levels", "settings", "message"),
    [
        ([edm_level(1.0)], None, "needs the levels of its steps and of the final state, got 1"),
        ([edm_level(1.0), edm_level(0.0)], DetectionSettings(mode="learned"), "needs a taught detector"),
    ],
)
def test_a_run_that_cannot_begin_says_why(levels, settings, message):
    with pytest.raises(ValueError, match=message):
        Trajectory.begin(levels, TRAINING, settings)


def test_a_step_that_does_not_exist_or_fit_is_refused():
    trajectory = Trajectory.begin(in_scale("vp"), TRAINING)
    with pytest.raises(ValueError, match="steps 0 to 24, got step 25"):
        trajectory.observe(25, IMAGE, IMAGE)
    with pytest.raises(ValueError, match="must have the same shape"):
        trajectory.observe(0, IMAGE, IMAGE[:1])
