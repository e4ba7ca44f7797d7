"""A run without a mark is called clean only if something was looked at and nothing was there."""

from __future__ import annotations

import re

import pytest
import torch


def _gate(run_node, samples, report):
    return run_node("ASCED_Gate", samples={"samples": samples}, report=report, drop_worst_percent=0.0)[4]


@pytest.mark.parametrize("widgets", [{"threshold": 0.0}, {"threshold": 0.1}, {"mode": "paper"}])
def test_everything_exceeded_the_threshold_and_it_said_clean(corrected, detection, run_node, widgets):
    loose = {"min_area": 100, "min_width": 5}
    samples, mask, report = corrected(settings={"detection": detection(**loose, **widgets)})
    assert not mask.any() and all(image.too_large for image in report.images)
    assert report.summary().startswith(
        "No region marked in 2 images. 2 regions in images 1 and 2 left alone: larger than"
    )
    assert _gate(run_node, samples, report) is False


def test_a_clean_run_says_so(corrected, detection, run_node):
    samples, _, report = corrected(settings={"detection": detection(threshold=20.0)})
    assert report.summary() == "Clean: no artifacts found in 2 images." and _gate(run_node, samples, report) is True


@pytest.mark.parametrize(
    "masks",
    [
        {"only_here": torch.zeros(1, 64, 64)},
        {"only_here": torch.zeros(64, 64)},
        {"protect": torch.ones(1, 24, 32)},
        {"only_here": torch.cat([torch.ones(1, 24, 16), torch.zeros(1, 24, 16)], 2), "protect": torch.ones(1, 24, 32)},
    ],
    ids=["nothing painted", "one mask", "all protected", "both"],
)
def test_nothing_was_looked_at_and_it_said_clean(corrected, detection, run_node, masks):
    """The image is not square, and Load Image makes an empty mask of 64x64."""
    given = {"samples": torch.zeros(2, 3, 24, 32)}
    samples, mask, report = corrected(latent=given, settings={"detection": detection(**masks)})
    assert not mask.any() and [image.state for image in report.images] == ["not_looked_at"] * 2
    assert report.summary() == "Nothing was looked at: the masks only_here and protect leave nothing."
    assert _gate(run_node, samples, report) is False


def test_an_empty_mask_for_one_image_names_that_image(corrected, detection, run_node):
    only = torch.stack([torch.zeros(32, 32), torch.ones(32, 32)])
    samples, _, report = corrected(settings={"detection": detection(threshold=20.0, only_here=only)})
    assert report.summary() == (
        "No region marked in 1 image. Image 1 was not looked at: the masks only_here and protect leave nothing of it."
    )
    assert run_node("ASCED_BestOfBatch", samples={"samples": samples}, report=report, count=2)[2] == "1, 0"
    assert _gate(run_node, samples, report) is False


def test_an_empty_protect_mask_of_another_shape_stopped_the_graph(corrected, detection):
    """Comfy-Org/ComfyUI's Load Image returns zeros of 64x64 for an image without alpha."""
    given = {"samples": torch.zeros(2, 3, 24, 32)}
    plain = corrected(latent=given, settings={"detection": detection(threshold=2.0)})
    protected = corrected(
        latent=given, settings={"detection": detection(threshold=2.0, protect=torch.zeros(1, 64, 64))}
    )
    assert torch.equal(plain[0], protected[0]) and torch.equal(plain[1], protected[1])
    assert [i.state for i in plain[2].images] == [i.state for i in protected[2].images]
    with pytest.raises(ValueError, match="same proportions"):
        corrected(latent=given, settings={"detection": detection(protect=torch.ones(1, 64, 64))})


def test_the_status_of_a_run_that_nobody_watched(corrected, detection, run_node, caplog):
    caplog.set_level("INFO", logger="ASCED")
    samples, _, report = corrected(steps=2)
    assert report.summary().startswith("Not watched")
    assert _gate(run_node, samples, report) is False
    assert re.match(r"2 kept \(run score -1.0 to \+1.0, 2 not looked at\), 0 rejected\.", caplog.messages[-1])
