"""Teaching a detector: material, planted faults, training, and what was learned as a file."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from asced_core import DetectionSettings, RunFacts, edm_level
from asced_core.detect.certainty import Certainty
from asced_core.detect.learned import FaultNet
from asced_core.teach import (
    Course,
    Material,
    Taught,
    TaughtFacts,
    Training,
    certified,
    grow_faults,
    show_pictures,
)
from asced_core.teach.material import HELD_OUT, KINDS
from asced_core.teach.notebook import Notebook
from asced_core.teach.pasted import paste_faults
from asced_core.teach.training import labels_of, unit_of
from asced_core.window import find_window

LEVELS = tuple(edm_level(sigma) for sigma in (80.0, 30.0, 15.0, 8.0, 4.0, 2.0, 1.0, 0.3, 0.0))
WINDOW = find_window([level.sigma for level in LEVELS], 20.0, 2.5)  # steps 2 to 4, decision at 5
SHAPE = (4, 16, 16)
CPU = torch.device("cpu")
FACTS = TaughtFacts(model="Toy 1", runs=20, date="2026-01-01", version="0.1")


def _predict(x, step):
    """A toy model: it believes the more in what it sees, the less noise there is."""
    sigma = LEVELS[step].sigma
    return x / (1 + sigma**2)


def _grown(count=20, seed=0, **more):
    start = 80 * torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return grow_faults(_predict, start, LEVELS, WINDOW, np.random.default_rng(seed), **more)


@pytest.fixture(scope="module")
def material():
    return _grown()


@pytest.fixture(scope="module")
def taught(material):
    training = Training(material, Course(steps=12, width=8), CPU)
    losses = list(training)
    assert len(losses) == 12 and all(np.isfinite(losses))
    return certified(training, FACTS)


def test_every_run_is_repeated_with_faults_that_are_born_inside_the_window(material):
    assert material.runs.shape == (20, 3, *SHAPE) and material.grown.shape == (40, 3, *SHAPE)
    assert material.runs.dtype == torch.float16 and material.size == (16, 16)
    assert material.origin.tolist() == [*range(20), *range(20)] and set(material.kinds.tolist()) == set(
        range(len(KINDS))
    )
    changed = (material.grown != material.runs[material.origin]).flatten(2).any(2).float().mean(0)
    assert 0 < changed[0] < changed[1] <= changed[2] == 1  # more of them with every prediction


def test_the_first_run_is_the_models_own(material):
    x = 80 * torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    for step in range(WINDOW.decision):
        x = _predict(x, step) + (x - _predict(x, step)) * (LEVELS[step + 1].sigma / LEVELS[step].sigma)
    assert torch.allclose(material.runs[:, 2].float(), _predict(x, WINDOW.decision), atol=2e-3)


def test_only_the_asked_images_of_a_batch_are_kept():
    some = _grown(6, kept=[0, 1, 4])
    assert len(some.runs) == 3 and some.origin.tolist() == [0, 1, 2] * 2
    assert torch.equal(some.runs, _grown(6).runs[[0, 1, 4]])


def test_a_single_image_has_no_other_one_to_take_a_piece_from():
    kinds = torch.cat([_grown(1, seed).kinds for seed in range(8)])
    assert KINDS.index("another") not in kinds.tolist() and HELD_OUT in {KINDS[kind] for kind in kinds}


def test_a_fault_is_labeled_where_it_can_be_seen_and_nowhere_else(material):
    unit = unit_of(material)
    same = replace(material, grown=material.runs[material.origin])
    assert not labels_of(same, unit).any()
    square = same.grown.clone()
    square[3, :, :, 4:8, 6:10] += 3 * unit[:, None, None].half()
    labels = labels_of(replace(material, grown=square), unit)
    assert labels[3, 4:8, 6:10].all() and not labels[3, 10:].any() and not labels[3, :, :4].any()
    assert not labels[:3].any() and not labels[4:].any()
    own = labels_of(material, unit)  # the toy model has no reach: a fault stays in its ellipse
    unchanged = (material.grown[:, -1] == material.runs[material.origin, -1]).all(1)
    assert own.flatten(1).any(1).float().mean() > 0.5 and (own & unchanged).sum() < 0.5 * own.sum()


def test_an_image_without_a_pasted_fault_is_unchanged(material):
    frames = material.runs.float()
    changed, masks = paste_faults(frames, unit_of(material), np.random.default_rng(1))
    without = ~masks.flatten(1).any(1)
    assert 0 < without.sum() < len(frames) and torch.equal(changed[without], frames[without])
    assert all(not torch.equal(a, b) for a, b in zip(changed[~without], frames[~without], strict=True))
    assert torch.equal(changed[:, 0], frames[:, 0])  # nothing is there at the beginning of the window


def test_pictures_are_shown_with_and_without_a_replaced_part():
    clean = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(3))
    shown = show_pictures(_predict, clean, LEVELS, WINDOW, np.random.default_rng(0))
    assert shown.runs.shape == (5, 3, *SHAPE) and shown.grown.shape == (10, 3, *SHAPE)
    assert torch.equal(shown.grown[:, 0], shown.runs[shown.origin, 0])
    assert (shown.grown[:, 2] != shown.runs[shown.origin, 2]).flatten(1).any(1).all()


def test_the_global_random_generators_were_left_alone(material, tmp_path):
    def states():
        of_numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
        return torch.get_rng_state().tolist(), of_numpy, random.getstate()

    before = states()
    _grown(2)
    show_pictures(_predict, torch.zeros(2, *SHAPE), LEVELS, WINDOW, np.random.default_rng(0))
    training = Training(material, Course(steps=2, width=8), CPU)
    list(training)
    certified(training, FACTS).save(tmp_path / "toy.taught.safetensors")
    Taught.load(tmp_path / "toy.taught.safetensors")
    assert states() == before


def test_a_training_that_was_interrupted_ends_like_one_that_was_not(material, tmp_path):
    course = Course(steps=15, width=8, seed=4)
    whole = Training(material, course, CPU)
    losses = list(whole)
    notebook = Notebook(tmp_path / "toy.teaching", {})
    first = Training(material, course, CPU)
    begun = [loss for loss, _ in zip(first, range(7), strict=False)]
    notebook.open("toy")
    notebook.keep(first.state())
    second = Training(material, course, CPU)
    second.restore(notebook.training(CPU))
    assert second.step == first.step >= 7
    assert losses[:7] == begun and losses[second.step :] == list(second)
    assert second.exams == whole.exams
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]) and torch.equal(
            whole.best[name], second.best[name]
        )


def test_nine_runs_are_too_few(material):
    with pytest.raises(ValueError, match="needs 10 runs or more to learn from, got 9"):
        Training(_grown(9), Course(steps=1), CPU)


def test_a_notebook_goes_on_only_with_the_same_settings(tmp_path):
    settings = {"steps": 20, "cfg": 2.0, "prompts": "aa"}
    folder = tmp_path / "toy.teaching"
    book = Notebook(folder, settings)
    assert not book.begun
    book.open("toy")
    for source, seed in (("runs", 1), ("report", 2), ("pictures", 3)):
        book.add(source, 0, _grown(2, seed))
    assert book.begun and book.has("runs", 0) and not book.has("runs", 1) and book.training(CPU) is None
    again = Notebook(folder, dict(settings))
    again.open("toy")
    own = again.material()
    assert torch.equal(own.runs, torch.cat([_grown(2, seed).runs for seed in (2, 3, 1)]))  # own runs are held out
    assert own.origin.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5]
    other = Notebook(folder, {"steps": 25, "cfg": 2.0, "prompts": "bb"})
    assert other.digest != book.digest == again.digest
    with pytest.raises(
        ValueError,
        match=r"^toy was begun with other settings \(steps 20 instead of 25, other prompts\): use another name, or "
        r"turn on start_over\.$",
    ):
        other.open("toy")
    other.open("toy", start_over=True)
    assert not other.has("runs", 0)
    with pytest.raises(ValueError, match="nothing to learn from: set runs to 10 or more"):
        other.material()
    other.remove()
    assert not folder.exists()


def test_what_was_taught_survives_its_file(taught, tmp_path):
    file = tmp_path / "toy.taught.safetensors"
    taught.save(file)
    again = Taught.load(file)
    assert again.facts == taught.facts and again.certainty == taught.certainty
    assert again.facts.size == (16, 16) and again.facts.channels == 4 and [*tmp_path.iterdir()] == [file]
    assert np.array_equal(again.marks, taught.marks) and len(again.marks) == 4
    for name, value in taught.network.state_dict().items():
        assert torch.equal(value.half().float(), again.network.state_dict()[name])
    assert again.facts.summary().startswith(
        "Taught from 20 runs of Toy 1 at 16x16 latent cells, 2026-01-01, ASCED 0.1. Average precision"
    )


def test_another_file_is_no_taught_detector(material, tmp_path):
    other, broken = tmp_path / "material.safetensors", tmp_path / "broken.safetensors"
    material.save(other)
    broken.write_bytes(b"nothing")
    for file in (other, broken, tmp_path / "gone.safetensors"):
        with pytest.raises(ValueError, match=rf"{file.name} is not a taught detector .*: make one with ASCED Teach\."):
            Taught.load(file)


def test_the_threshold_marks_the_asked_share_of_the_held_out_runs(taught):
    marks = np.linspace(0.01, 0.99, 99, dtype=np.float32)
    known = Taught(taught.network, taught.facts, marks)
    for share in (0.02, 0.2, 0.5):
        settings = known.applied(DetectionSettings(space="auto", mode="reference", min_area=7), share)
        assert (settings.mode, settings.space, settings.min_area) == ("learned", "latent", 7)
        assert round(float((marks > settings.min_probability).mean()), 2) == pytest.approx(share, abs=0.011)
    with pytest.raises(ValueError, match=r"knows 99 held-out runs, which is too few for 0\.5%: teach .* to 1 or more"):
        known.applied(DetectionSettings(), 0.005)
    with pytest.raises(ValueError, match="set space to auto or latent, not rgb"):
        known.applied(DetectionSettings(space="rgb"), 0.2)


def test_a_user_is_told_if_the_detector_is_of_something_else(taught):
    assert taught.notes(RunFacts(model="Toy 1"), (16, 16)) == taught.notes(RunFacts(), (20, 20)) == ()
    assert "taught on another model (Toy 1; this is Toy 2)" in taught.notes(RunFacts(model="Toy 2"), (16, 16))[0]
    assert "taught at 16x16 latent cells, but this run has 128x64" in taught.notes(RunFacts(), (64, 128))[0]
    guided = replace(taught, facts=replace(taught.facts, cfg=2.0))
    assert guided.notes(RunFacts(cfg=2.5), (16, 16)) == taught.notes(RunFacts(cfg=9.0), (16, 16)) == ()
    assert "taught at CFG 2, but this run has CFG 7.5" in guided.notes(RunFacts(cfg=7.5), (16, 16))[0]
    assert "CFG 2" in guided.facts.summary() and "CFG" not in taught.facts.summary()
    assert taught.obstacle(4) == "" and "4 channels, but this model's latents have 16" in taught.obstacle(16)


def test_a_stronger_mark_is_never_less_certain():
    rng = np.random.default_rng(0)
    strengths = rng.uniform(0.1, 0.9, 200)
    known = Certainty.of(strengths, (rng.uniform(size=200) < strengths).tolist())
    shares = [known.at(0.1)(score) for score in np.linspace(0, 10, 50)]
    assert shares == sorted(shares) and shares[0] < 0.4 < 0.6 < shares[-1]
    assert known(0.5) == known.at(0.25)(2.0) and Certainty.of([0.5] * 9, [True] * 9) is None


def test_a_network_works_at_any_size_and_knows_its_scale(material):
    network = FaultNet(4, 8)
    network.measure(material.runs)
    for height, width in ((16, 16), (5, 7), (33, 18)):
        assert network(torch.zeros(2, 3, 4, height, width)).shape == (2, height, width)


def test_runs_that_turned_nan_are_not_learned_from(material):
    runs, grown = material.runs.clone(), material.grown.clone()
    runs[3, 1, 0, 0, 0], grown[25, 2, 1, 4, 4] = torch.nan, torch.inf
    clean = replace(material, runs=runs, grown=grown).finite()
    assert len(clean.runs) == 19 and len(clean.grown) == len(clean.kinds) == 37  # two faults grew from run 3
    own = (clean.grown[:, 0] == clean.runs[clean.origin, 0]).flatten(1).float().mean(1)
    assert (own > 0.5).all()  # each still belongs to its run
    assert clean.runs.isfinite().all() and torch.equal(material.finite().origin, material.origin)


def test_material_survives_its_file(material, tmp_path):
    material.save(tmp_path / "a.safetensors")
    again = Material.load(tmp_path / "a.safetensors")
    assert all(torch.equal(getattr(again, n), getattr(material, n)) for n in ("runs", "grown", "origin", "kinds"))
