"""Drafts and corrections in one run: picked before, at and after T_c."""

from __future__ import annotations

import pytest
import torch

from .drafts import MODES, row_by_row, same
from .models import with_artifact
from .patches import wrapping

DECIDE_AT = (0.28, 0.5, 0.8)
GIVEN = {"steps": 12, "drafts": 3}


@pytest.fixture
def big():
    return {"samples": torch.zeros(1, 3, 32, 32)}


@pytest.fixture
def marked(hands):
    """The demo model, with an artifact in the first row of every batch: in image 0, or in each image alone."""
    return with_artifact(row_by_row(hands.eps), images=(0, 1, 2))


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m_sde"])
@pytest.mark.parametrize("mode", MODES)
def test_a_finished_draft_is_corrected_as_in_the_whole_run(drafted, detection, big, marked, mode, sampler):
    given = {**GIVEN, "detection": detection(), "latent_image": big, "sampler_name": sampler, "at_once": mode}
    whole, full, _ = drafted(marked, keep=3, **given)
    assert all(image.corrected for image in full.images)
    for decide_at in DECIDE_AT:
        picked, report, places = drafted(marked, keep=1, decide_at=decide_at, **given)
        assert same(picked, whole, places), decide_at
        assert [image.index for image in report.images] == [0]
        assert report.images[0].corrected
        assert report.images[0].looked_at
        assert report.images[0].score == pytest.approx(full.images[places[0]].score, rel=1e-3)
        assert report.labels.shape[0] == report.trace.shape[0] == 1
        assert "nobody looked" not in report.summary()


@pytest.mark.parametrize("mode", MODES)
def test_the_uncorrected_images_of_the_finished_drafts(run_node, ksampler, hands, detection, correction, big, mode):
    marked = with_artifact(row_by_row(hands.eps), images=(0, 1, 2))
    prompts = {"positive": hands.negative, "negative": hands.negative}
    for decide_at in (0.28, 0.8):
        out = run_node(
            "ASCED_DraftAndPick", model=marked, seed=5, drafts=3, keep=2, decide_at=decide_at, **prompts,
            latent_image=big, steps=12, cfg=2.0, sampler_name="dpmpp_2m", scheduler="normal", denoise=1.0,
            detection=detection(), correction=correction(keep_original=True), at_once=mode,
        )  # fmt: skip
        latent, _, report, original = out[:4]
        assert all(image.corrected for image in report.images)
        assert len(latent["samples"]) == len(original["samples"]) == 2
        for image, fixed, place in zip(original["samples"], latent["samples"], report.drafts.kept, strict=True):
            alone = ksampler(marked, 5 + place, steps=12, sampler_name="dpmpp_2m", latent_image=big, **prompts)
            assert torch.equal(image, alone[0]), decide_at
            assert not torch.equal(fixed, image)


@pytest.mark.parametrize("decide_at", DECIDE_AT)
def test_a_harmless_patch_costs_no_draft_its_place_beside_a_correction(drafted, hands, detection, big, decide_at):
    """The check on a patched model compares like with like, also after a correction has changed the state."""
    patched = wrapping(lambda run, args: run(args["input"]))(with_artifact(row_by_row(hands.eps), images=(0, 1, 2)))
    given = {**GIVEN, "detection": detection(), "latent_image": big}
    whole, _, _ = drafted(patched, keep=3, **given)
    picked, report, places = drafted(patched, keep=1, decide_at=decide_at, **given)
    assert report.images[0].corrected
    assert "computed to the end" not in report.summary()
    assert same(picked, whole, places)


@pytest.mark.parametrize("mode", MODES)
def test_only_the_finished_drafts_are_in_the_report(drafted, hands, detection, big, mode):
    marked = with_artifact(hands.eps, images=(0,))
    given = {**GIVEN, "drafts": 4, "detection": detection(), "latent_image": big, "at_once": mode}
    _, report, places = drafted(marked, also_finish="2, 3", keep=1, **given)
    assert places == [1, 2]
    assert [image.index for image in report.images] == [0, 1]
    assert [image.corrected for image in report.images] == [mode == "one"] * 2
    assert len(report.drafts.ranked) == 4
    assert report.drafts.kept == (1, 2)


@pytest.mark.parametrize("method", ["redo", "replace", "clip", "sargd"])
@pytest.mark.parametrize("mode", MODES)
def test_methods_that_change_every_step(drafted, hands, detection, correction, big, mode, method):
    marked = with_artifact(row_by_row(hands.eps), images=(0, 1, 2))
    given = {**GIVEN, "detection": detection(), "correction": correction(method=method), "latent_image": big}
    whole, _, _ = drafted(marked, keep=3, at_once=mode, **given)
    for decide_at in (0.28, 0.8):
        picked, _, places = drafted(marked, keep=1, decide_at=decide_at, at_once=mode, **given)
        assert same(picked, whole, places), decide_at


def test_space_vae_looks_at_the_finished_drafts(drafted, demo, detection):
    marked = with_artifact(demo.model, strength=2.5, size=0.25, alike=True, images=(0, 1, 2))
    given = {
        **GIVEN, "latent_image": {"samples": torch.zeros(1, 4, 16, 16)}, "positive": demo.positive,
        "negative": demo.negative, "sampler_name": "ddim",
        "detection": detection(space="vae", vae=demo.vae, threshold=1.5, min_area=1800, max_area=12000, min_width=44),
    }  # fmt: skip
    for mode in MODES:
        whole, _, _ = drafted(marked, keep=3, at_once=mode, **given)
        picked, report, places = drafted(marked, keep=1, at_once=mode, **given)
        assert same(picked, whole, places)
        assert len(report.images) == 1
        assert report.images[0].looked_at
