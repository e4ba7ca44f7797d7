"""Compare, Gate, Best of Batch and Save Report: use what a run found."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from .models import with_artifact


def _sampled(demo_hands, latent, run_node, detection):
    """A run of three images, the second with an artifact: LATENT, REPORT, decoded images."""
    given = latent(3, batch_index=[4, 5, 6], noise_mask=torch.ones(3, 32, 32))
    given["noise_mask"][2] = 0.5
    out, _, report, _ = run_node(
        "ASCED_KSampler", model=with_artifact(demo_hands.eps, images=(1,), onset=0.42), seed=3, steps=12, cfg=2.0,
        sampler_name="euler", scheduler="normal", positive=demo_hands.positive, negative=demo_hands.negative,
        latent_image=given, denoise=1.0, detection=detection,
    )  # fmt: skip
    return SimpleNamespace(latent=out, report=report, images=demo_hands.vae.decode(out["samples"]))


@pytest.fixture
def found(demo_hands, latent, run_node, detection):
    """Only the artifact is marked."""
    out = _sampled(demo_hands, latent, run_node, detection(threshold=4.5))
    assert [image.flagged for image in out.report.images] == [False, True, False]
    return out


@pytest.fixture
def marked(demo_hands, latent, run_node, detection):
    """At a lower threshold all images have regions. The artifact has the highest score and the smallest area."""
    out = _sampled(demo_hands, latent, run_node, detection(threshold=2.25, min_area=100, min_width=5))
    scores, areas = [i.score for i in out.report.images], out.report.masks.mean((1, 2))
    assert (
        all(i.flagged for i in out.report.images) and scores[1] == max(scores) and areas[1] < 0.05 < areas[0] < areas[2]
    )
    return out


CAUTION = " The images have different prompts, and run scores compare images of one prompt."


def _part_of(report, places):
    from asced.asced_core.report.selection import part_of

    return part_of(report, places)


def _blocked(value):
    from comfy_execution.graph_utils import ExecutionBlocker

    return isinstance(value, ExecutionBlocker) and value.message is None


def test_gate_splits_the_batch_with_masks_and_indices(found, run_node):
    kept, rejected, score, regions, clean, summary, report = run_node(
        "ASCED_Gate", samples=found.latent, report=found.report, max_marked_percent=0.0, drop_worst_percent=0.0
    )
    assert torch.equal(kept["samples"], found.latent["samples"][[0, 2]]) and kept["batch_index"] == [4, 6]
    assert torch.equal(kept["noise_mask"], found.latent["noise_mask"][[0, 2]])
    assert torch.equal(rejected["samples"], found.latent["samples"][[1]]) and rejected["batch_index"] == [5]
    assert score == found.report.images[1].score > 1 and regions == 1 and clean is False
    assert summary == found.report.summary()
    assert [image.index for image in report.images] == [0, 1] and not any(i.flagged for i in report.images)
    assert found.latent["batch_index"] == [4, 5, 6]  # the input is unchanged


def _without_run_scores(report):
    return replace(report, images=tuple(replace(image, run_score=None) for image in report.images))


def test_images_are_selected_by_marked_area(marked, run_node, caplog):
    caplog.set_level("INFO", logger="ASCED")
    given = {"samples": marked.latent, "report": _without_run_scores(marked.report)}
    gate = {**given, "drop_worst_percent": 0.0}
    kept, rejected, score, _, clean, _, report = run_node("ASCED_Gate", **gate, max_marked_percent=5.0)
    assert kept["batch_index"] == [5] and rejected["batch_index"] == [4, 6] and clean is False
    assert score == report.images[0].score == marked.report.images[1].score
    areas = [f"{100 * area:.1f}" for area in marked.report.masks.mean((1, 2))]
    assert f"1 kept ({areas[1]}% marked), 2 rejected ({areas[0]} to {areas[2]}% marked).{CAUTION}" in caplog.messages
    limit = 100 * float(marked.report.masks[0].mean())
    assert run_node("ASCED_Gate", **gate, max_marked_percent=limit + 0.01)[0]["batch_index"] == [4, 5]
    assert run_node("ASCED_BestOfBatch", **given, count=3)[2] == "1, 0, 2"
    assert f"3 picked ({areas[1]} to {areas[2]}% marked): 2, 1, 3.{CAUTION}" in caplog.messages


def test_the_gate_drops_half_of_a_batch_by_default(found, run_node):
    """Of three images one: half of them, rounded down."""
    scores = [image.run_score.relative for image in found.report.images]
    kept, rejected, *_, clean, _, report = run_node("ASCED_Gate", samples=found.latent, report=found.report)
    worst = scores.index(min(scores))
    assert rejected["batch_index"] == [4 + worst] and kept["batch_index"] == [i for i in (4, 5, 6) if i != 4 + worst]
    assert torch.equal(rejected["samples"], found.latent["samples"][[worst]]) and clean is False
    assert [image.run_score.relative for image in report.images] == [s for s in scores if s != min(scores)]


@pytest.mark.parametrize(("share", "dropped"), [(0, 0), (33, 0), (34, 1), (65, 1), (67, 2), (99, 2), (100, 3)])
def test_the_gate_drops_a_share_of_an_odd_batch_rounded_down(found, run_node, share, dropped):
    kept, rejected, *_ = run_node("ASCED_Gate", samples=found.latent, report=found.report, drop_worst_percent=share)
    counts = [0 if _blocked(side) else len(side["samples"]) for side in (kept, rejected)]
    assert counts == [3 - dropped, dropped]


@pytest.mark.parametrize(("share", "passes"), [(0, True), (50, True), (99, True), (100, False)])
def test_a_single_image_is_dropped_only_by_100_percent(found, run_node, share, passes):
    only, report = {"samples": found.latent["samples"][[0]]}, _part_of(found.report, [0])
    kept, rejected, *_ = run_node("ASCED_Gate", samples=only, report=report, drop_worst_percent=share)
    assert (_blocked(kept), _blocked(rejected)) == (not passes, passes)


def test_best_of_batch_goes_by_run_score(marked, run_node, caplog):
    caplog.set_level("INFO", logger="ASCED")
    from asced.asced_core.detect.run_score import RunScore
    from asced.asced_core.report.ranking import ranked

    given = ranked([RunScore(2.0), RunScore(1.0), RunScore(3.0)])  # not in the order of the marked areas, 1, 0, 2
    images = tuple(replace(image, run_score=own) for image, own in zip(marked.report.images, given, strict=True))
    scores, order = [own.relative for own in given], [2, 0, 1]
    scored = replace(marked.report, images=images)
    best, report, indices, _ = run_node("ASCED_BestOfBatch", samples=marked.latent, report=scored, count=2)
    assert indices == ", ".join(map(str, order[:2]))
    assert torch.equal(best["samples"], marked.latent["samples"][order[:2]])
    assert [image.run_score.relative for image in report.images] == [scores[place] for place in order[:2]]
    assert f"2 picked (run score {scores[order[1]]:+.1f} to {scores[order[0]]:+.1f}, " in caplog.text


def test_images_of_different_prompts_come_with_a_caution(hands, latent, run_node, detection, caplog):
    caplog.set_level("INFO", logger="ASCED")
    same = run_node("ASCED_DemoModel", digit="3")
    for conditioning, cautioned in (((hands.positive, hands.negative), True), (same[2:], False)):
        out, _, report, _ = run_node(
            "ASCED_KSampler", model=hands.eps, seed=3, steps=12, cfg=2.0, sampler_name="euler", scheduler="normal",
            positive=conditioning[0], negative=conditioning[1], latent_image=latent(3), denoise=1.0,
            detection=detection(),
        )  # fmt: skip
        for node, more in (("ASCED_Gate", {}), ("ASCED_BestOfBatch", {"count": 1})):
            caplog.clear()
            run_node(node, samples=out, report=report, **more)
            assert caplog.messages[-1].endswith(CAUTION) == cautioned, caplog.messages


def test_an_empty_output_blocks_downstream_nodes(found, run_node):
    kept, rejected, _, _, clean, _, _ = run_node(
        "ASCED_Gate", samples=found.latent, report=found.report, drop_worst_percent=0.0
    )
    assert torch.equal(kept["samples"], found.latent["samples"]) and _blocked(rejected) and clean is False
    only = {"samples": found.latent["samples"][[1]]}
    part = _part_of(found.report, [1])
    kept, rejected, *_, report = run_node("ASCED_Gate", samples=only, report=part, max_marked_percent=0.0)
    assert _blocked(kept) and _blocked(report) and torch.equal(rejected["samples"], only["samples"])
    assert rejected["batch_index"] == [0]


def test_without_run_scores_best_of_batch_returns_the_cleanest_first(found, run_node):
    given = {"samples": found.latent, "report": _without_run_scores(found.report)}
    best, report, indices, score = run_node("ASCED_BestOfBatch", **given, count=2)
    assert indices == "0, 2" and score == 0.0 and best["batch_index"] == [4, 6]
    assert torch.equal(best["samples"], found.latent["samples"][[0, 2]])
    every, _, indices, score = run_node("ASCED_BestOfBatch", **given, count=9)
    assert indices == "0, 2, 1" and score == found.report.images[1].score
    assert len(every["samples"]) == 3 and len(report.images) == 2


def test_one_mask_for_all_and_a_latent_without_indices(found, run_node):
    given = {"samples": found.latent["samples"], "noise_mask": torch.ones(1, 32, 32)}
    best = run_node("ASCED_BestOfBatch", samples=given, report=_without_run_scores(found.report), count=1)[0]
    assert best["noise_mask"] is given["noise_mask"] and best["batch_index"] == [0]


@pytest.mark.parametrize("node", ["ASCED_Gate", "ASCED_BestOfBatch"])
def test_a_latent_of_another_run_is_refused(found, run_node, node):
    more = {"count": 1} if node == "ASCED_BestOfBatch" else {}
    with pytest.raises(ValueError, match=r"3 image.* but the latent holds 2"):
        run_node(node, samples={"samples": torch.zeros(2, 3, 8, 8)}, report=found.report, **more)


def _execute(pack, node_id, **inputs):
    cls = pack[node_id]
    cls.hidden = SimpleNamespace(
        unique_id="1", prompt={"1": {"class_type": node_id}}, extra_pnginfo={"workflow": {"nodes": []}}
    )
    return cls.execute(**inputs)


def _file(saved):
    import folder_paths

    folder = folder_paths.get_directory_by_type(saved["type"])
    return f"{folder}/{saved['subfolder']}/{saved['filename']}"


def test_compare_shows_both_and_names_their_files(found, pack):
    before, after = found.images, found.images.flip(1)
    done = _execute(pack, "ASCED_Compare", before=before, after=after)
    (still,) = done.args
    assert still.shape == (3, 256, 514, 3)
    refs = done.ui["asced_compare"][0]
    for name, images in (("before", before), ("after", after)):
        assert len(refs[name]) == 3 and all(set(ref) == {"filename", "subfolder", "type"} for ref in refs[name])
        for ref, image in zip(refs[name], images, strict=True):
            assert ref["type"] == "temp"
            shown = np.asarray(Image.open(_file(ref)), np.float32)
            np.testing.assert_allclose(shown, image.clamp(0, 1).numpy() * 255, atol=1)
    assert len(done.ui["images"]) == 3 and Image.open(_file(done.ui["images"][0])).size == (514, 256)
    marked = _execute(pack, "ASCED_Compare", before=before, after=after, report=found.report).args[0]
    assert [torch.equal(a, b) for a, b in zip(marked, still, strict=True)] == [True, False, True]


def test_the_slider_opens_at_the_first_change_and_has_the_outlines(found, pack):
    before = found.images
    after = before.clone()
    after[1:] = 1 - after[1:]
    for pair, first in (((before, after), 1), ((before, before), 0)):
        out = _execute(pack, "ASCED_Compare", before=pair[0], after=pair[1], report=found.report)
        slider = json.loads(json.dumps(out.ui["asced_compare"][0]))
        assert slider["first"] == first
        assert [bool(path) for path in slider["outlines"]] == [False, True, False]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (torch.zeros(2, 32, 32, 3), "before has 3 images of 32×32, but after has 2 images of 32×32"),
        (torch.zeros(3, 16, 24, 3), "but after has 3 images of 24×16: connect images"),
    ],
)
def test_compare_rejects_images_that_do_not_match(found, pack, after, message):
    with pytest.raises(ValueError, match=message):
        _execute(pack, "ASCED_Compare", before=found.images, after=after)


def test_save_report_saves_like_save_image_and_adds_the_report(found, pack, host):

    done = _execute(pack, "ASCED_SaveReport", image=found.images, report=found.report, filename_prefix="folder/hands")
    saved = done.ui["images"]
    assert [s["filename"] for s in saved] == [f"hands_{i:05}_.png" for i in (1, 2, 3)]
    assert all(s["subfolder"] == "folder" and s["type"] == "output" for s in saved)
    stock = host.SaveImage().save_images(found.images, "stock", {"1": {"class_type": "ASCED_SaveReport"}},
                                         {"workflow": {"nodes": []}})["ui"]["images"]  # fmt: skip
    for place, (ours, theirs) in enumerate(zip(saved, stock, strict=True)):
        with Image.open(_file(ours)) as picture, Image.open(_file(theirs)) as expected:
            assert np.array_equal(np.asarray(picture), np.asarray(expected))
            texts = dict(picture.text)
            sent = json.loads(texts.pop("asced"))
            assert texts == expected.text
        assert bool(sent["images"][0]["regions"]) == (place == 1) and sent["summary"]
        own = found.report.images[place].run_score
        assert sent["images"][0]["run_score"]["relative"] == own.relative and own.words
        with open(_file(ours).replace(".png", ".json"), encoding="utf-8") as file:
            beside = json.load(file)
        assert beside == sent and len(beside["images"]) == 1
    again = _execute(pack, "ASCED_SaveReport", image=found.images, report=found.report, filename_prefix="folder/hands")
    assert again.ui["images"][0]["filename"] == "hands_00004_.png"


def test_without_metadata_the_png_holds_no_text(found, pack, monkeypatch):
    from comfy.cli_args import args

    monkeypatch.setattr(args, "disable_metadata", True)
    done = _execute(pack, "ASCED_SaveReport", image=found.images, report=found.report, filename_prefix="bare")
    with Image.open(_file(done.ui["images"][0])) as picture:
        assert not picture.text


def test_save_report_refuses_images_of_another_run(found, pack):
    with pytest.raises(ValueError, match=r"covers 3 images, but 2 are connected"):
        _execute(pack, "ASCED_SaveReport", image=torch.zeros(2, 8, 8, 3), report=found.report, filename_prefix="x")


@pytest.mark.parametrize("style", ["tint", "outline", "heat", "side by side"])
def test_overlay_draws_in_every_style(found, run_node, style):
    plain = run_node("ASCED_Overlay", report=found.report, image=found.images, opacity=0.45)
    drawn = run_node(
        "ASCED_Overlay", report=found.report, image=found.images, opacity=0.45, style=style, show_scores=False
    )
    assert drawn[0].shape == (3, 256, 516 if style == "side by side" else 256, 3)
    assert torch.equal(drawn[1], plain[1])
    assert (drawn[0][1, :, :256] != plain[0][1]).any()  # the label is gone, if nothing else
    assert torch.equal(drawn[0][0, :, :256], plain[0][0]) != (style == "heat")  # a clean image is only turned gray
