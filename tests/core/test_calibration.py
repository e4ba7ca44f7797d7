"""A threshold for a given share of marked images, compared with the detector and with the guaranteed share."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from asced_core import DetectionSettings, ImageReport, RunFacts, detect
from asced_core.report.calibration import FREE, LOWEST, Calibration, Origin
from asced_core.settings import to_dict

DEFAULTS = to_dict(DetectionSettings(mad_scale=LOWEST))


def _runs(count, seed=0):
    """Predictions [9,3,64,64] of some images: coarse waves, and fine ones that grow and stay."""
    rng = torch.Generator().manual_seed(seed)
    for _ in range(count):
        coarse, fine = (
            torch.nn.functional.interpolate(torch.randn(1, 3, side, side, generator=rng), (64, 64), mode="bilinear")
            for side in (4, 16)
        )
        yield torch.cat([coarse + k * 0.15 * fine for k in range(9)]).clamp(-4, 4)


def _watched(runs, **settings):
    """The parts of a report that calibration reads, from runs at the lowest threshold."""
    detection = DetectionSettings(mad_scale=LOWEST, **settings)
    ratios = np.stack([detect(run, detection).ratio for run in runs]).astype(np.float16)
    images = [ImageReport(place, 0.0, (), False) for place in range(len(ratios))]
    return SimpleNamespace(ratios=ratios, detection=to_dict(detection), decision=12, images=images, run=RunFacts())


def _made(marks):
    own = {k: v for k, v in DEFAULTS.items() if k not in FREE}
    return Calibration(np.asarray(marks, np.float32), own)


@pytest.mark.parametrize("settings", [{}, {"min_area": 400, "min_width": 12}], ids=["defaults", "large regions"])
def test_the_first_mark_is_where_the_detector_starts_to_mark(settings):
    runs = list(_runs(6))
    for run, mark in zip(runs, Calibration.of(_watched(runs, **settings)).marks, strict=True):
        assert mark > 2 * LOWEST
        for factor, found in ((0.99, True), (1.01, False)):
            there = detect(run, DetectionSettings(mad_scale=float(mark) * factor, max_area=65536, **settings))
            assert bool(there.regions) is found


def test_an_image_without_any_change_is_never_marked():
    calm = torch.zeros(9, 3, 64, 64)
    assert Calibration.of(_watched([calm])).marks == np.float32(LOWEST)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_at_most_the_given_share_of_new_images_is_marked(share):
    """Over many calibrations with 60 images each; the bound is tight to 1 / (60 + 1)."""
    rng = np.random.default_rng(0)
    marked = [(rng.gamma(3, size=400) > _made(rng.gamma(3, size=60)).threshold(share)).mean() for _ in range(800)]
    assert share - 1 / 61 - 0.004 < np.mean(marked) < share + 0.004


def test_thresholds_worked_out_by_hand():
    four = _made([4, 1, 3, 2])
    assert [four.threshold(share) for share in (0.2, 0.4, 0.6, 0.8, 0.99)] == [4, 3, 2, 1, 1]
    with pytest.raises(
        ValueError, match=r"4 images cannot give a threshold for 5%: .* 19 images or more, .* 20\.0% or more"
    ):
        four.threshold(0.05)
    assert four.summary() == "4 images; 20% get a mark at threshold 4.00, 50% at 3.00."
    assert _made([1]).summary() == "1 image; 50% get a mark at threshold 1.00."


def test_runs_add_up_and_the_same_run_counts_once():
    one, two = (Calibration.of(_watched(_runs(2, seed))) for seed in (1, 2))
    both = one + two
    assert both.marks.tolist() == [*one.marks, *two.marks] and len(both.runs) == 2
    assert (both + two).marks.tolist() == (both + one).marks.tolist() == both.marks.tolist()


def test_a_saved_file_loads_again(tmp_path):
    made = replace(_made([1.25, 7.5]), runs=("1a", "2b"), origin=Origin("SDXL 1f0c", "taesd"), left_out=3)
    made.save(tmp_path / "model.calibration.safetensors")
    again = Calibration.load(tmp_path / "model.calibration.safetensors")
    assert again.marks.tolist() == [1.25, 7.5] and again.detection == made.detection and again.runs == made.runs
    assert again.origin == made.origin and again.left_out == 3
    assert [path.name for path in tmp_path.iterdir()] == ["model.calibration.safetensors"]


def test_a_file_of_an_older_version_loads_with_an_unknown_model(tmp_path):
    """It holds the space that was asked for, with the other settings."""
    path = tmp_path / "older.calibration.safetensors"
    for asked, known in (("auto", ""), ("rgb", "rgb")):
        detection = {**_made([1]).detection, "space": asked}
        save_file({"first_marks": np.float32([2, 3])}, path, {"detection": json.dumps(detection), "runs": "1a 2b"})
        older = Calibration.load(path)
        assert older.origin == Origin("", known) and older.runs == ("1a", "2b") and older.left_out == 0
        assert older.applied(DetectionSettings(space="auto"), 0.5).mad_scale == 3
        assert older.origin.notes(RunFacts(model="SDXL 1", space="rgb")) == ()


def test_images_that_could_not_be_measured_are_left_out():
    watched = _watched(_runs(4))
    watched.images[1] = replace(watched.images[1], measurable=False)
    watched.images[3] = replace(watched.images[3], looked_at=False)
    made, whole = Calibration.of(watched), Calibration.of(_watched(_runs(4)))
    assert made.marks.tolist() == [whole.marks[0], whole.marks[2]] and made.left_out == 2
    assert made.summary().endswith(" 2 images were left out, because nothing could be measured there.")
    assert "left out" not in whole.summary() and (made + Calibration.of(_watched(_runs(2, 1)))).left_out == 2
    watched.images = [replace(image, measurable=False) for image in watched.images]
    watched.summary = lambda: "None of the 4 images could be measured."
    with pytest.raises(ValueError, match=r"nothing to learn from this run\. None of the 4 images could be measured"):
        Calibration.of(watched)


def _of(model="", space=""):
    return replace(_made([2, 6, 7]), origin=Origin(model, space))


def test_runs_of_another_model_or_space_are_not_put_together():
    for other, what in (
        (_of("SDXL 2"), "model SDXL 1 instead of SDXL 2"),
        (_of("SDXL 1", "rgb"), "space latent instead"),
    ):
        with pytest.raises(
            ValueError, match=rf"The file holds runs of another model or space \({what}.*use another name"
        ):
            _of("SDXL 1", "latent") + other
    assert (_of("SDXL 1", "latent") + _of("SDXL 1", "latent")).origin == Origin("SDXL 1", "latent")
    assert (_of("SDXL 1", "latent") + _of()).origin == Origin()  # of all its images, nothing is known


def test_a_run_of_another_model_or_space_gets_a_note():
    learned = Origin("SDXL 1", "latent")
    assert learned.notes(RunFacts(model="SDXL 1", space="latent")) == ()
    assert learned.notes(RunFacts(space="latent")) == Origin().notes(RunFacts(model="SDXL 2", space="taesd")) == ()
    model, space = learned.notes(RunFacts(model="Flux 2", space="taesd"))
    assert model == (
        "The calibration was made with another model (SDXL 1; this is Flux 2), so its threshold may not hold here."
    )
    assert space == (
        "The calibration was made in space latent, but this run was watched in space taesd, so its threshold may not "
        "hold here."
    )


def test_a_space_that_is_asked_for_must_be_that_of_the_calibration():
    with pytest.raises(ValueError, match=r"other settings than ASCED Detection \(space latent instead of rgb\)"):
        _of(space="latent").applied(DetectionSettings(space="rgb"), 0.5)
    for space in ("auto", "latent"):
        assert _of(space="latent").applied(DetectionSettings(space=space), 0.5).mad_scale == 6


def test_calibration_only_changes_the_threshold():
    settings = DetectionSettings(mad_scale=3, max_area=5000, expand=4)
    assert _made([2, 6, 7]).applied(settings, 0.5) == replace(settings, mad_scale=6)


def test_mismatches_are_reported(tmp_path):
    with pytest.raises(
        ValueError, match=r"calibration used other settings than ASCED Detection \(min_area 100 instead of 300\): use"
    ):
        _made([1, 2, 3]).applied(DetectionSettings(min_area=300), 0.5)
    with pytest.raises(
        ValueError, match=r"earlier runs used other settings than this run \(.*mode robust instead of paper.*\)"
    ):
        _made([1]) + Calibration(np.float32([1]), {"mode": "paper"})
    watched = _watched(_runs(1))
    with pytest.raises(ValueError, match="not watched, so there is nothing to learn"):
        Calibration.of(SimpleNamespace(**{**vars(watched), "decision": None}))
    for wrong in ({"mode": "reference"}, {"mad_scale": 3.0}):
        with pytest.raises(ValueError, match=r"calibration needs mode strict or robust at threshold 0\.1"):
            Calibration.of(SimpleNamespace(**{**vars(watched), "detection": {**DEFAULTS, **wrong}}))
    (tmp_path / "broken.safetensors").write_bytes(b"{}")
    with pytest.raises(
        ValueError, match=r"broken\.safetensors is not a calibration file .*make one with ASCED Calibrate"
    ):
        Calibration.load(tmp_path / "broken.safetensors")
