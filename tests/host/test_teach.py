"""ASCED_Teach in a real ComfyUI with the demo models: what it makes, interruptions, and wrong inputs."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from .randomness import seed_all, states

ENDING = ".taught.safetensors"
WIDGETS = {"seed": 5, "steps": 12, "cfg": 2.0, "scheduler": "normal", "name": "hands", "runs": 12,
           "training_steps": 24, "start_over": False}  # fmt: skip


@pytest.fixture
def teach(run_node, demo, asced_models):
    """ASCED_Teach on the latent demo with tiny numbers; file name and summary."""

    def run(**change):
        given = {"model": demo.model, "positive": demo.positive, "negative": demo.negative,
                 "latent_image": {"samples": torch.zeros(6, 4, 16, 16)}}  # fmt: skip
        return run_node("ASCED_Teach", **{**given, **WIDGETS, **change})

    return run


@pytest.fixture
def texts(monkeypatch):
    """Status texts of the node, without a pause between them; ``at`` holds what happens when one begins like a key."""
    from asced.nodes.page import status
    from asced.nodes.sampling import teaching

    shown = SimpleNamespace(seen=[], at={})

    def show(_, text):
        shown.seen.append(text)
        for start in [start for start in shown.at if text.startswith(start)]:
            shown.at.pop(start)()

    monkeypatch.setattr(status, "show", show)
    monkeypatch.setattr(teaching, "SHOW_EVERY", 0.0)
    return shown


def _taught(folder, name="hands"):
    from asced.asced_core.teach import Taught

    with torch.inference_mode(False):
        return Taught.load(folder / f"{name}{ENDING}")


def _same(one, other):
    weights = other.network.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.network.state_dict().items())


def test_a_detector_is_taught_without_a_trace(teach, asced_models, texts):
    """Of unfinished work, of the random generators, and of inference mode."""
    seed_all()
    before = states()
    name, summary = teach()
    assert name == f"hands{ENDING}" and [path.name for path in asced_models.iterdir()] == [name]
    assert states() == before and torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    facts = _taught(asced_models).facts
    assert summary == facts.summary() and texts.seen[-1] == f"{name}: {summary}"
    assert (facts.runs, facts.pictures, facts.channels, facts.size) == (12, 0, 4, (16, 16))
    assert facts.model and facts.version and 0 < facts.chance < facts.precision < 1
    assert any(re.fullmatch(r"Run 6 of 12, \d+ seconds? left\.", text) for text in texts.seen)
    assert "Training step 24 of 24." in texts.seen


def test_it_went_on_where_it_was_canceled(teach, asced_models, texts):
    """Once in the runs and once in the training; the result is the same as without."""
    import comfy.model_management as management

    teach(name="whole")
    stop = management.interrupt_current_processing
    texts.at["Run 6 of 12"] = stop
    with pytest.raises(management.InterruptProcessingException):
        teach()
    folder = asced_models / "hands.teaching"
    assert sorted(path.name for path in folder.iterdir()) == ["runs-00000.safetensors", "settings.json"]
    texts.at["Training step 14 of 24"] = stop
    with pytest.raises(management.InterruptProcessingException):
        teach()
    assert (folder / "training.pt").is_file() and not (asced_models / f"hands{ENDING}").exists()
    texts.seen.clear()
    teach()
    steps = [text for text in texts.seen if text.startswith("Training step")]
    assert steps[0].startswith("Training step 14 of 24") and len(steps) == 11
    assert [text for text in texts.seen if text.startswith("Run")] == ["Run 6 of 12.", "Run 12 of 12."]
    assert not folder.exists() and _same(_taught(asced_models), _taught(asced_models, "whole"))


def test_an_unfinished_teaching_has_other_settings(teach, asced_models, texts, demo):
    import comfy.model_management as management

    texts.at["Run 6 of 12"] = management.interrupt_current_processing
    with pytest.raises(management.InterruptProcessingException):
        teach()
    with pytest.raises(ValueError, match=r"hands was begun with other settings \(steps 12 instead of 14, other prompt"):
        teach(steps=14, positive=demo.negative)
    assert (asced_models / "hands.teaching").is_dir()
    teach(training_steps=25, start_over=True)
    assert [path.name for path in asced_models.iterdir()] == [f"hands{ENDING}"]


def test_a_finished_file_is_not_taught_twice(teach, asced_models, texts):
    first = teach()
    texts.seen.clear()
    assert teach() == first and len(texts.seen) == 1
    with pytest.raises(ValueError, match=r"hands\.taught\.safetensors exists and was taught with other settings: use"):
        teach(seed=6)
    teach(seed=6, start_over=True)
    assert _taught(asced_models).facts.lesson


def test_another_seed_makes_other_runs_and_the_same_seed_the_same(teach, asced_models):
    teach()
    for name, seed in (("again", 5), ("other", 6)):
        teach(name=name, seed=seed)
    assert _same(_taught(asced_models), _taught(asced_models, "again"))
    assert not _same(_taught(asced_models), _taught(asced_models, "other"))


def test_a_single_image_is_a_size_only(teach, asced_models, texts):
    teach(latent_image={"samples": torch.zeros(1, 4, 16, 16)}, runs=10)
    assert [text.split(",")[0] for text in texts.seen if text.startswith("Run")] == [
        "Run 4 of 10", "Run 8 of 10", "Run 10 of 10.",
    ]  # fmt: skip
    assert _taught(asced_models).facts.runs == 10


def test_good_pictures_and_kept_predictions_are_learned_too(teach, sample, demo, asced_models, texts, tmp_path):
    import folder_paths

    inputs = folder_paths.get_input_directory()
    folder_paths.set_input_directory(str(tmp_path / "input"))
    try:
        (tmp_path / "input" / "good").mkdir(parents=True)
        Image.new("RGB", (90, 70), "red").save(tmp_path / "input" / "good" / "a.png")
        report = sample(looking={"keep_predictions": True}, acting={"method": "none"})[2]
        assert report.predictions.shape == (2, 3, 4, 16, 16)
        images = torch.rand(7, 100, 60, 3, generator=torch.Generator().manual_seed(0))
        teach(runs=10, report=report, pictures=images, pictures_folder="good", vae=demo.vae)
        facts = _taught(asced_models).facts
        assert (facts.runs, facts.pictures) == (12, 8)
        assert "Taught from 12 runs and 8 pictures" in texts.seen[-1] and "Picture 8 of 8." in texts.seen
        teach(name="shown", runs=0, pictures=torch.cat([images, images]), vae=demo.vae)
        assert _taught(asced_models, "shown").facts.pictures == 14
        (tmp_path / "input" / "good" / "b.png").write_bytes(b"no picture")
        with pytest.raises(ValueError, match=r"picture b\.png cannot be read"):
            teach(name="bad", pictures_folder="good", vae=demo.vae)
    finally:
        folder_paths.set_input_directory(inputs)


def test_the_pixel_model_shows_pictures_as_they_are(run_node, hands, asced_models):
    given = {
        "model": hands.eps, "positive": hands.positive, "negative": hands.negative, "vae": hands.vae,
        "latent_image": {"samples": torch.zeros(5, 4, 32, 32)}, **WIDGETS, "runs": 0,
        "pictures": torch.rand(10, 32, 32, 3, generator=torch.Generator().manual_seed(0)),
    }  # fmt: skip
    if hands.vae.latent_channels != 3:  # ComfyUI 0.3.52 takes every VAE that it does not know for one of SD
        with pytest.raises(ValueError, match="VAE for latents with 4 channels, but this model's latents have 3"):
            run_node("ASCED_Teach", **given)
        return
    run_node("ASCED_Teach", **given)
    assert _taught(asced_models).facts.channels == 3


def test_a_patched_model_is_not_watched_while_it_teaches(teach, run_node, demo):
    """Its samplings would fill the RUN that another node reads."""
    model, run = run_node("ASCED_ApplyToModel", model=demo.model)
    teach(model=model)
    with pytest.raises(ValueError, match="did not come from"):
        run_node("ASCED_CollectRun", samples={"samples": torch.zeros(6, 4, 16, 16)}, run=run)


def test_videos_are_taught_frame_by_frame(run_node, asced_models, tmp_path):
    from .families import FAMILIES, is_known, load_family

    name = "HunyuanVideo, flow"
    if not is_known(FAMILIES[name]):
        pytest.skip("this ComfyUI does not accept a network this small")
    family = FAMILIES[name]
    text = {"positive": family.conditioning(), "negative": family.conditioning(1)}
    latent = {"samples": torch.zeros(2, 16, 3, 8, 8)}
    given = {**WIDGETS, "runs": 10, "cfg": 1.0, "scheduler": "simple", "steps": 10}
    run_node("ASCED_Teach", model=load_family(name, tmp_path), latent_image=latent, **text, **given)
    facts = _taught(asced_models).facts
    assert (facts.runs, facts.channels, facts.size) == (10, 16, (8, 8))
    with pytest.raises(ValueError, match="Pictures cannot teach a detector for videos"):
        run_node(
            "ASCED_Teach", model=load_family(name, tmp_path), latent_image=latent, **text, **{**given, "name": "b"},
            pictures=torch.zeros(10, 64, 64, 3),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "../hands"}, r"name is '\.\./hands': enter a name without folders"),
        ({"positive": []}, "positive conditioning is empty"),
        ({"latent_image": {"samples": torch.zeros(0, 4, 16, 16)}}, "latent is empty"),
        ({"latent_image": {"samples": torch.zeros(1, 4, 100)}}, r"shape \(1, 4, 100\) .* are not images: connect"),
        ({"steps": 3}, "3 steps has fewer than two steps in the detection window.*use more steps"),
        ({"runs": 5}, r"too little to learn from \(5 runs, 0 pictures, .* set runs to 10 or more"),
        ({"runs": 0}, r"too little to learn from \(0 runs"),
        ({"runs": 0, "pictures": torch.zeros(12, 8, 8, 3)}, "Teaching from pictures needs a VAE"),
        ({"pictures_folder": "gone"}, "folder gone in ComfyUI's input directory holds no pictures"),
    ],
)
def test_invalid_inputs_get_one_clear_error(teach, asced_models, change, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        teach(**change)
    assert len(str(error.value)) < 300 and not list(asced_models.iterdir())


def test_a_report_without_predictions_or_of_another_size_is_refused(teach, sample, asced_models):
    with pytest.raises(ValueError, match="REPORT holds no predictions: turn on keep_predictions"):
        teach(report=sample()[2])
    large = sample(looking={"keep_predictions": True}, height=24, width=16)[2]
    with pytest.raises(ValueError, match="have 4 channels and 16x24 cells, but this latent has 4 channels and 16x16"):
        teach(report=large)


def test_video_with_audio_is_refused(teach):
    nested = pytest.importorskip("comfy.nested_tensor")
    both = nested.NestedTensor([torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16)])
    with pytest.raises(ValueError, match="Video with audio cannot be taught"):
        teach(latent_image={"samples": both})
