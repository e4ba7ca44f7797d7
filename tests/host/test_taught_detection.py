"""ASCED Detection with a file of ASCED Teach, in a real ComfyUI with the latent demo model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from .drafts import MODES

NAME = "hands.taught.safetensors"
LOOSE = {"threshold": 3.0, "min_area": 0, "max_area": 65536, "min_width": 0}  # marks of any size
BLIND = {"threshold": 3.0, "min_area": 65000, "max_area": 65536, "min_width": 250}  # none of any size
OWN = {"mode": "strict", "taught": NAME, "marked_percent": 90.0}


@pytest.fixture(scope="module")
def file(run_node, demo, tmp_path_factory):
    """A file that was taught with tiny numbers."""
    import folder_paths

    folder = tmp_path_factory.mktemp("asced")
    paths, _ = folder_paths.folder_names_and_paths["asced"]
    paths.insert(0, str(folder))
    with torch.inference_mode():
        name, _ = run_node(
            "ASCED_Teach", model=demo.model, positive=demo.positive, negative=demo.negative, seed=5, steps=12, cfg=2.0,
            latent_image={"samples": torch.zeros(6, 4, 16, 16)}, scheduler="normal", name="hands", runs=12,
            training_steps=60, start_over=False,
        )  # fmt: skip
    yield folder / name
    paths.remove(str(folder))
    folder_paths.filename_list_cache.pop("asced", None)


@pytest.fixture
def texts(monkeypatch):
    from asced.nodes.page import status

    seen = []
    monkeypatch.setattr(status, "announce", lambda _, text: seen.append(text))
    return seen


def _changed(file, folder, **facts):
    """The name of a copy that was taught with other facts."""
    from asced.asced_core.teach import Taught

    taught = Taught.load(file)
    other = Taught(taught.network, replace(taught.facts, **facts), taught.marks, taught.certainty)
    other.save(folder / "other.taught.safetensors")
    return "other.taught.safetensors"


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_marked_images_are_corrected_and_the_others_are_stock(file, sample, sampler):
    from asced.asced_core.teach import Taught

    stock = sample(looking=None, batch=6, sampler_name=sampler)["samples"]
    latent, mask, report = sample(looking={**LOOSE, **OWN, "max_area": 9000}, batch=6, sampler_name=sampler)
    assert (report.detection["mode"], report.detection["space"], report.run.space) == ("learned", "latent", "latent")
    assert report.notes == () and mask.shape == (6, 64, 64)
    marked = [image.corrected for image in report.images]
    assert 0 < sum(marked) < 6
    for place, corrected in enumerate(marked):
        assert torch.equal(latent["samples"][place], stock[place]) != corrected
    sure = Taught.load(file).certainty  # none if so short a teaching left too few marks to learn it from
    for region in (region for image in report.images for region in image.regions):
        expected = None if sure is None else sure.at(report.detection["min_probability"])(region.score)
        assert region.confidence == (None if expected is None else pytest.approx(expected, abs=1e-3))


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
def test_nothing_was_found_and_the_image_is_stock(file, sample, sampler):
    stock = sample(looking=None, sampler_name=sampler)["samples"]
    for looking in ({**BLIND, **OWN}, {**LOOSE, **OWN, "only_here": torch.zeros(64, 64)}):
        latent, mask, report = sample(looking=looking, sampler_name=sampler)
        assert report.decision is not None and not mask.any()
        assert torch.equal(latent["samples"], stock)


def test_a_lower_share_marks_less(file, run_node):
    most, least = (
        run_node("ASCED_Detection", **LOOSE, taught=NAME, marked_percent=share)[0].settings.min_probability
        for share in (90.0, 35.0)
    )
    assert 0 < most < least < 1


def test_the_node_says_what_it_uses_and_what_not(file, run_node, texts):
    from asced.asced_core.teach import Taught

    run_node("ASCED_Detection", threshold=3.0, **OWN)
    summary = Taught.load(file).facts.summary()
    assert texts == [summary] and "Taught from 12 runs" in summary
    run_node("ASCED_Detection", **{**OWN, "threshold": 4.0, "mode": "reference", "end_percent": 0.6})
    assert texts[1].removeprefix(summary) == (
        " With a taught detector, mode and threshold have no effect. It was taught to look from start_percent 0.2 to "
        "end_percent 0.5, so with other values it may miss artifacts."
    )


def test_another_model_or_size_is_noted_in_the_report(file, sample, asced_models):
    report = sample(looking={**BLIND, **OWN}, height=32, width=32)[2]
    assert report.notes == (
        "The detector was taught at 16x16 latent cells, but this run has 32x32, so it may miss artifacts of other "
        "sizes: teach one at this size.",
    )
    other = _changed(file, asced_models, model="Toy 1")
    report = sample(looking={**BLIND, **OWN, "taught": other})[2]
    assert "taught on another model (Toy 1; this is _HandModel" in report.summary()


def test_a_detector_for_other_channels_leaves_the_run_as_stock(file, corrected, stock, detection):
    samples, mask, report = corrected(settings={"detection": detection(**OWN)})
    assert report.summary() == (
        "Not watched: the taught detector was made for latents with 4 channels, but this model's latents have 3: "
        "choose a file that was taught on this model."
    )
    assert torch.equal(samples, stock()) and not mask.any()


def test_a_changed_file_is_read_again(file, pack, asced_models):
    from os import utime

    node = pack["ASCED_Detection"]
    before = node.fingerprint_inputs(calibration="none", taught=NAME)
    utime(file, (1, 1))
    assert node.fingerprint_inputs(calibration="none", taught=NAME) != before
    assert node.fingerprint_inputs(calibration="none", taught="none") == node.fingerprint_inputs() == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"taught": "gone.taught.safetensors"}, r"no file gone\.taught\.safetensors in models/asced: choose another"),
        ({"calibration": "ASCED demo hands.calibration.safetensors"}, "Both calibration and taught are set"),
        ({"detector": object()}, "A detector is connected, and a taught one is chosen: disconnect detector, or set"),
        ({"space": "rgb"}, "set space to auto or latent, not rgb"),
        ({"marked_percent": 5.0}, r"knows 2 held-out runs, which is too few for 5%: .* set marked_percent to 33\.4 or"),
    ],
)
def test_a_mismatch_gets_one_clear_error(file, run_node, change, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        run_node("ASCED_Detection", **{"threshold": 3.0, **OWN, **change})
    assert len(str(error.value)) < 300


def test_a_damaged_file_is_no_taught_detector(run_node, asced_models):
    (asced_models / NAME).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"is not a taught detector .*: make one with ASCED Teach"):
        run_node("ASCED_Detection", threshold=3.0, **OWN)


@pytest.mark.parametrize("method", ["clip", "sargd", "replace"])
def test_every_method_runs_with_a_taught_detector(file, sample, method):
    latent, _, report = sample(looking={**LOOSE, **OWN}, acting={"method": method})
    assert report.decision is not None and latent["samples"].isfinite().all()


def test_picked_drafts_keep_their_predictions(file, run_node, demo):
    detection = run_node("ASCED_Detection", **BLIND, **OWN, keep_predictions=True)[0]
    for at_once in MODES:
        report = run_node(
            "ASCED_DraftAndPick", model=demo.model, positive=demo.positive, negative=demo.negative, seed=5, drafts=4,
            keep=2, decide_at=0.28, latent_image={"samples": torch.zeros(1, 4, 16, 16)}, detection=detection, steps=12,
            cfg=2.0, sampler_name="euler", scheduler="normal", denoise=1.0, at_once=at_once, also_finish="",
        )[2]  # fmt: skip
        assert report.predictions.shape == (2, 3, 4, 16, 16) and len(report.images) == 2


def test_videos_are_looked_at_frame_by_frame(run_node, asced_models, tmp_path, host):
    from asced.asced_core.detect.learned import FaultNet
    from asced.asced_core.teach import Taught, TaughtFacts

    from .families import FAMILIES, is_known, load_family

    name = "HunyuanVideo, flow"
    if not is_known(FAMILIES[name]):
        pytest.skip("this ComfyUI does not accept a network this small")
    family = FAMILIES[name]
    marks = torch.full((9,), 0.01).numpy()
    Taught(FaultNet(16, 8), TaughtFacts(channels=16, size=(8, 8)), marks).save(asced_models / NAME)
    detection = run_node("ASCED_Detection", **{**LOOSE, "threshold": 3.0}, **OWN, keep_predictions=True)[0]
    model, latent = load_family(name, tmp_path), {"samples": torch.zeros(2, 16, 3, 8, 8)}
    prompts = {"positive": family.conditioning(), "negative": family.conditioning(1)}
    mask, report = run_node(
        "ASCED_KSampler", model=model, seed=3, steps=12, cfg=1.0, sampler_name="euler", scheduler="simple",
        latent_image=latent, denoise=1.0, detection=detection, **prompts,
    )[1:3]  # fmt: skip
    assert report.run.frames == 3 and len(report.images) == len(mask) == 6
    assert report.predictions.shape == (6, 3, 16, 8, 8) and any(i.flagged or i.too_large for i in report.images)
