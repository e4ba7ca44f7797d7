"""Method redo: the regions are sampled again from T_d on, while the surroundings keep to the states of the run."""

from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings, RunFacts, edm_level, flow_level, item_generator, vp_level
from asced_core.correct.redoing import redo

from .runs import SIGMAS, T_C, T_D, trajectory_of

REDO = CorrectionSettings(method="redo", expand=0)
SEED = 7
LEVELS = {
    "edm": ([edm_level(s) for s in SIGMAS], (T_D, T_C)),
    "flow": ([flow_level(s) for s in np.linspace(1, 0, 26).tolist()], (0.85, 0.5)),
    "vp": ([vp_level(a) for a in np.linspace(0.001, 1, 26).tolist()], (0.95, 0.7)),
}
SHAPE = (2, 3, 24, 20)


def model(x, step):
    """A prediction that depends on the state, on its surroundings and on the step."""
    return torch.tanh(x.roll(1, -1) + 0.5 * x) * (0.5 + 0.01 * step)


def square(images, marked=(0,)):
    """Marks a square in some of the images."""
    found = np.zeros((images, *SHAPE[-2:]), bool)
    found[list(marked), 6:14, 5:12] = True
    return found


class Run:
    """A run with noise of its own at every step, written into one tensor; it is corrected at T_c."""

    def __init__(self, kind="edm", shape=SHAPE, correction=REDO, detection=None, skipped=(), predict=None, **options):
        levels, ends = LEVELS[kind]
        frames = shape[0] * (shape[2] if len(shape) == 5 else 1)
        options.setdefault("find", lambda images: square(frames))
        self.trajectory = trajectory_of(detection, correction, levels=levels, ends=ends, seed=SEED, **options)
        self.levels, self.window = levels, self.trajectory.schedule.window
        self.calls, self.states, self.asked = [], [], []
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * levels[0].sigma
        for step in range(self.window.decision + 1):
            denoised = model(x, step)
            self.states.append(x.clone())
            if step not in skipped:
                self.trajectory.observe(step, x, denoised)
            if step < self.window.decision:
                own = torch.randn(shape, generator=torch.Generator().manual_seed(100 + step))
                x.copy_(levels[step + 1].alpha * denoised + levels[step + 1].sigma * own)
        self.decision = self.trajectory.decide()
        self.corrected = None
        if self.decision.acts:
            self.corrected = self.trajectory.correct(self.decision, x, denoised, predict=predict or self.predict)

    def predict(self, x, step):
        self.calls.append(step)
        self.asked.append(x.clone())
        return model(x, step)


def noise(shape):
    """What is drawn for each item; 0 for those that are not corrected."""
    drawn = torch.zeros(shape)
    drawn[0] = torch.randn(shape[1:], generator=item_generator(SEED, 0))
    return drawn


def plain(run, inside):
    """The formula of the method as a loop in double precision."""
    levels, first = run.levels, run.window.first
    x, d = run.states[first].double(), model(run.states[first], first).double()
    eps = noise(x.shape).double()
    x = torch.where(inside, levels[first].alpha * d + levels[first].sigma * eps, x)
    for step in range(first, run.window.decision):
        d = model(x, step)
        n = (x - levels[step].alpha * d) / levels[step].sigma
        after = levels[step + 1].alpha * d + levels[step + 1].sigma * n
        x = torch.where(inside, after, run.states[step + 1].double())
    return x


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("frames", [0, 3])
def test_it_equals_a_plain_loop_and_keeps_every_bit_outside(kind, frames):
    shape = (2, 3, frames, *SHAPE[-2:]) if frames else SHAPE
    run = Run(kind, shape)
    cells = torch.from_numpy(run.decision.cells).view(2, *shape[2:])
    inside = cells.unsqueeze(1).expand(shape)
    assert inside[0].any() and not inside[1].any()
    torch.testing.assert_close(run.corrected.double(), plain(run, inside), rtol=1e-4, atol=1e-4)
    assert torch.equal(run.corrected[~inside], run.states[-1][~inside])
    assert (run.corrected[inside] != run.states[-1][inside]).all()
    assert run.calls == list(range(run.window.first, run.window.decision))


def test_what_is_outside_is_seen_as_the_run_had_it_at_every_step():
    run = Run()
    inside = torch.from_numpy(run.decision.cells)[:, None].expand(SHAPE)
    for step, asked in zip(run.calls, run.asked, strict=True):
        assert torch.equal(asked[~inside], run.states[step][~inside])


def test_nothing_marked_is_the_state_at_t_c():
    run = Run(find=lambda images: square(2, ()))
    assert not run.decision.acts and not run.calls
    window, levels = run.window, run.levels
    nowhere = torch.zeros(2, *SHAPE[-2:], dtype=torch.bool)
    states = run.states[window.first :]
    assert torch.equal(redo(states[0], states[1:], nowhere, levels[window.first :], model, window.first), states[-1])


def test_strength_and_gamma_act_at_t_d():
    def start(**options):
        run = Run(correction=CorrectionSettings(method="redo", expand=0, **options))
        inside = torch.from_numpy(run.decision.cells)[:, None].expand(SHAPE)
        first = run.window.first
        level, x = run.levels[first], run.states[first]
        d = model(x, first)
        return run.asked[0][inside], d[inside], ((x - d) / level.sigma)[inside], noise(SHAPE)[inside], level.sigma

    got, d, old, eps, sigma = start(strength=0.6)
    torch.testing.assert_close(got, d + sigma * (0.8 * old + 0.6 * eps), rtol=1e-4, atol=1e-4)
    got, d, _, eps, sigma = start(gamma=0.5)
    xi = (got - d - sigma * eps) / 0.5
    assert 0.8 < float(xi.std()) < 1.2 and abs(float(xi.mean())) < 0.3


class Codec:
    """Decodes to an image of twice the brightness, and counts."""

    decoded = 0

    def decode(self, latent):
        self.decoded += 1
        return latent * 2

    def encode(self, picture):
        return picture / 2


def test_a_perturbation_in_pixels_acts_on_the_prediction_at_t_d():
    codec = Codec()
    settings = CorrectionSettings(method="redo", gamma=0.5, perturb_in="pixel", feather=0, expand=0)
    run, calm = Run(correction=settings, codec=codec), Run()
    change = run.asked[0] - calm.asked[0]
    inside = torch.from_numpy(run.decision.cells)[:, None].expand(SHAPE)
    assert codec.decoded == 1
    assert 0.2 < float(change[inside].std()) < 0.3  # half of gamma, because the codec halves it
    assert not change[~inside].any()


def test_states_are_kept_at_every_step_whatever_the_interval():
    often, rarely = Run(), Run(detection=DetectionSettings(step_interval=3))
    assert torch.equal(often.corrected, rarely.corrected)


def _kept(method, ends):
    """Number of states that a run keeps in its window, and at its end."""
    shape = (2, 3, 24, 21)

    def count():
        gc.collect()
        return sum(type(o) is torch.Tensor and tuple(o.shape) == shape for o in gc.get_objects())

    found = np.zeros((2, *shape[-2:]), bool)
    found[0, 6:14, 5:12] = ends != "nothing found"
    trajectory = trajectory_of(correction=CorrectionSettings(method=method, expand=0), find=lambda images: found)
    window, before = trajectory.schedule.window, count()
    for step in range(window.first, window.last + 1):
        trajectory.observe(step, torch.full(shape, float(step)), torch.full(shape, float(step)))
    watching = count() - before
    trajectory.observe(window.decision, torch.zeros(shape), torch.zeros(shape))
    if ends == "forgotten":
        trajectory.corrector.forget()
    decision = trajectory.decide()
    if ends == "corrected":
        trajectory.correct(decision, torch.zeros(shape), torch.zeros(shape), predict=lambda x, _: x)
    elif ends == "left alone":
        trajectory.leave_alone()
    return watching, count() - before, window.last - window.first + 1


@pytest.mark.parametrize("ends", ["corrected", "nothing found", "left alone", "forgotten"])
def test_states_are_kept_for_redo_alone_and_freed_at_the_end(ends):
    watching, left, length = _kept("redo", ends)
    plain, plain_left, _ = _kept("ttc", ends)
    assert watching == plain + length + 1  # one of each step, and the prediction at T_d
    assert left == plain_left


def test_a_missing_model_is_named_in_one_sentence():
    run = Run(correction=CorrectionSettings(method="redo", strength=0))
    run.trajectory.corrector.settings = REDO
    with pytest.raises(ValueError, match="pass the model as predict") as error:
        run.trajectory.correct(run.decision, run.states[-1], run.states[-1])
    assert "\n" not in str(error.value)


def test_a_step_that_was_not_observed_means_ttc_and_a_note():
    window = Run().window
    ttc = CorrectionSettings(expand=0)
    for skipped in (window.first, window.first + 2):
        run, other = Run(skipped=[skipped]), Run(correction=ttc, skipped=[skipped])
        assert torch.equal(run.corrected, other.corrected) and not run.calls
        report = run.trajectory.report(RunFacts())
        assert report.notes[-1] == (
            "Corrected by ttc instead of redo: not every step between T_d and T_c was observed."
        )
        assert report.correction["method"] == "ttc"


def test_a_run_that_is_left_alone_was_not_corrected_by_ttc_either():
    run = Run()
    run.trajectory.corrector.fall_back("of a reason")
    assert any("instead of redo" in note for note in run.trajectory.report(RunFacts()).notes)
    run.trajectory.leave_alone()
    assert not any("instead of redo" in note for note in run.trajectory.report(RunFacts()).notes)


def test_half_precision_is_computed_in_single():
    level, after = edm_level(8.0), edm_level(6.0)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).half() * 8
    inside = torch.ones(1, 8, 8, dtype=torch.bool)
    got = redo(x, [torch.zeros_like(x)], inside, (level, after), lambda x, _: (x * 0.1).bfloat16(), 0)
    assert got.dtype == torch.float16
    clean = (x * 0.1).bfloat16().double()
    torch.testing.assert_close(got, (clean + 0.75 * (x.double() - clean)).half(), rtol=2e-3, atol=0)


def test_the_noise_of_an_image_is_that_of_its_own_number():
    one, two = Run(items=[4, 9]), Run(items=[5, 9])
    assert not torch.equal(one.corrected, two.corrected)
    assert torch.equal(one.corrected, Run(items=[4, 9]).corrected)


def test_a_region_is_as_noisy_as_its_level_afterwards():
    """In a model that predicts 0, the noise of the region is scaled and nothing else."""
    run = Run(predict=lambda x, _: torch.zeros_like(x))
    inside = torch.from_numpy(run.decision.cells)[:, None].expand(SHAPE)
    sigma = run.levels[run.window.decision].sigma
    assert math.isclose(float(run.corrected[inside].std()), sigma, rel_tol=0.2)
