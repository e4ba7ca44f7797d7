"""One image of a batch turns NaN in mid-run, as in an overflow of half precision; named after what users saw."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

STEPS = 12


def turning(model, value, images, onset=0.3):
    """A clone of a model whose predictions of some images take a value from a share of the schedule on."""
    level = float(model.get_model_object("model_sampling").percent_to_sigma(onset))

    def spoil(args):
        denoised = args["denoised"]
        if float(args["sigma"][0]) < level:
            denoised = denoised.clone()
            denoised[list(images)] = value
        return denoised

    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(spoil)
    return clone


@pytest.fixture(params=[("nan", 0.3), ("inf", 0.3), ("nan", 0.7)], ids=["NaN", "infinity", "NaN after T_c"])
def broken(request, hands, corrected):
    """A run of four images, the second of which has no finite values in the end."""
    value, onset = request.param
    model = turning(hands.eps, float(value), (1,), onset)
    samples, mask, report = corrected(model, batch=4)
    assert [bool(one.isfinite().all()) for one in samples] == [True, False, True, True]
    return SimpleNamespace(samples={"samples": samples}, mask=mask, report=report, images=hands.vae.decode(samples))


def _strict(text):
    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_black_image_was_called_the_best(broken, run_node, caplog):
    caplog.set_level("INFO", logger="ASCED")
    given = {"samples": broken.samples, "report": broken.report}
    best, report, indices, score = run_node("ASCED_BestOfBatch", count=3, **given)
    assert "1" not in indices and best["samples"].isfinite().all() and np.isfinite(score)
    assert all(image.measurable for image in report.images)
    assert run_node("ASCED_BestOfBatch", count=4, **given)[2].endswith(", 1")
    kept, rejected, score, _, clean, summary, report = run_node("ASCED_Gate", drop_worst_percent=0.0, **given)
    assert kept["batch_index"] == [0, 2, 3] and rejected["batch_index"] == [1] and clean is False
    assert np.isfinite(score) and "could not be measured" not in report.summary()
    assert "Image 2 could not be measured: its values are NaN or infinite." in summary
    assert "1 rejected (1 not measurable)." in caplog.messages[-1]


def test_the_other_images_are_as_ever(broken, corrected):
    samples, mask, report = corrected(batch=4)
    others = [0, 2, 3]
    assert torch.equal(broken.samples["samples"][others], samples[others])
    assert torch.equal(broken.mask[others], mask[others]) and broken.mask.isfinite().all()
    assert [broken.report.images[i] for i in others] == [report.images[i] for i in others]


def test_a_black_batch_was_called_clean(hands, corrected, run_node):
    samples, mask, report = corrected(turning(hands.eps, float("nan"), range(2)))
    assert not samples.isfinite().any() and not mask.any()
    assert report.summary() == "None of the 2 images could be measured: their values are NaN or infinite."
    kept, _, score, regions, clean, *_ = run_node("ASCED_Gate", samples={"samples": samples}, report=report)
    assert type(kept).__name__ == "ExecutionBlocker" and (score, regions, clean) == (0.0, 0, False)


def test_the_history_of_the_server_was_no_json(broken, pack):
    """Comfy-Org/ComfyUI writes NaN into JSON, which no browser reads: everything that leaves a node must be finite."""
    import folder_paths

    nodes = {
        "ASCED_MaskPreview": [{}, {"image": broken.images}],
        "ASCED_Compare": [{"before": broken.images, "after": broken.images}],
        "ASCED_SaveReport": [{"image": broken.images, "filename_prefix": "broken"}],
    }
    for name, each in nodes.items():
        for inputs in each:
            cls = pack[name]
            cls.hidden = SimpleNamespace(unique_id="1", prompt={}, extra_pnginfo={})
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # numpy warns when it casts NaN
                ui = cls.execute(report=broken.report, **inputs).ui
            payload = json.dumps(ui, allow_nan=False)
            for text in ui.get("asced_report", []):
                assert _strict(text)["images"][1]["measurable"] is False
            if name == "ASCED_MaskPreview":
                assert '"not_measurable"' in payload
                means = ui["asced_panel"][0]["images"][1]["timeline"]["mean"]
                assert None in means and means[0] is not None
    for place, saved in enumerate(ui["images"]):  # of ASCED_SaveReport
        path = f"{folder_paths.get_output_directory()}/{saved['filename']}"
        with Image.open(path) as picture:
            sent = _strict(picture.text["asced"])
            assert np.asarray(picture).any() == (place != 1)  # black, as in ComfyUI's Save Image
        with open(path.replace(".png", ".json"), encoding="utf-8") as file:
            assert _strict(file.read()) == sent
        assert sent["images"][0]["measurable"] == (place != 1)


def test_pictures_of_it_are_defined(broken, run_node):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for style in ("tint", "heat", "side by side"):
            drawn = run_node("ASCED_Overlay", report=broken.report, image=broken.images, opacity=0.5, style=style)
            assert all(out.isfinite().all() for out in drawn)
        for index in (-1, 0, 1):
            assert run_node("ASCED_Dynamics", report=broken.report, index=index)[0].isfinite().all()
        assert run_node("ASCED_MaskPreview", report=broken.report)[1].isfinite().all()


@pytest.mark.parametrize("method", ["ttc", "redo", "replace", "clip", "sargd", "none"])
def test_no_method_corrects_it(hands, corrected, correction, method):
    model = turning(hands.eps, float("nan"), (1,))
    report = corrected(model, batch=3, settings={"correction": correction(method=method)})[2]
    assert [image.state for image in report.images][1] == "not_measurable"
    assert not report.images[1].corrected and not report.masks[1].any()


def test_a_calibration_learned_from_it(hands, corrected, detection, correction, run_node, asced_models):
    settings = {"detection": detection(threshold=0.1), "correction": correction(method="none")}
    model = turning(hands.eps, float("nan"), (1,))
    report = corrected(model, batch=4, settings=settings)[2]
    images, summary = run_node("ASCED_Calibrate", report=report, name="broken", start_over=False)
    assert images == 3 and "1 image was left out, because nothing could be measured there." in summary
    nothing = corrected(turning(hands.eps, float("nan"), range(2)), settings=settings)[2]
    with pytest.raises(ValueError, match=r"nothing to learn from this run\. None of the 2 images could be measured"):
        run_node("ASCED_Calibrate", report=nothing, name="broken", start_over=False)


def test_one_frame_of_a_video_is_enough(broken, run_node):
    from dataclasses import replace

    video = replace(broken.report, run=replace(broken.report.run, frames=2))
    latent = {"samples": torch.zeros(2, 3, 2, 32, 32)}
    assert run_node("ASCED_BestOfBatch", samples=latent, report=video, count=1)[2] == "1"
    assert "Frame 2 could not be measured" in video.summary()
