"""Few knobs: presets, the sensitivity of the samplers, and no widget that silently does nothing."""

from __future__ import annotations

import pytest
import torch

from .models import with_artifact

SAMPLERS = {"ASCED_KSampler": "KSampler", "ASCED_KSamplerAdvanced": "KSamplerAdvanced"}
SENSITIVE = (*SAMPLERS, "ASCED_SamplerCustomAdvanced", "ASCED_ApplyToModel", "ASCED_DraftAndPick")


@pytest.fixture
def said(monkeypatch):
    """What the nodes announce, the last one last."""
    from asced.nodes.page import status

    texts: list[str] = []
    monkeypatch.setattr(status, "announce", lambda _, text: texts.append(text))
    return texts


def _inputs(info):
    return {name: spec for kind in ("required", "optional") for name, spec in info["input"].get(kind, {}).items()}


@pytest.mark.parametrize("node_id", SAMPLERS)
def test_a_sampler_has_the_widgets_and_defaults_of_its_comfyui_node(pack, host, node_id):
    own = _inputs(pack[node_id].GET_NODE_INFO_V1())
    theirs = host.NODE_CLASS_MAPPINGS[SAMPLERS[node_id]].INPUT_TYPES()["required"]
    assert list(own)[: len(theirs)] == list(theirs)
    for name, spec in theirs.items():
        assert own[name][1].get("default") == (spec[1].get("default") if len(spec) > 1 else None), name
        if isinstance(spec[0], list | tuple):
            options = own[name][0] if isinstance(own[name][0], list) else own[name][1]["options"]
            assert options == list(spec[0]), name


@pytest.mark.parametrize("node_id", SENSITIVE)
def test_sensitivity_is_the_last_widget_and_marks_few_by_default(pack, node_id):
    inputs = _inputs(pack[node_id].GET_NODE_INFO_V1())
    assert list(inputs)[-1] == "sensitivity" and inputs["sensitivity"][1]["default"] == "few marks"


def test_more_sensitivity_marks_no_less(demo_hands, corrected):
    marked = [
        corrected(demo_hands.eps, settings={"sensitivity": sensitivity}, batch=8, seed=1)[2].masks.mean()
        for sensitivity in ("few marks", "more marks", "many marks")
    ]
    assert marked == sorted(marked) and marked[0] < marked[-1]


def test_the_default_sensitivity_is_the_default_detection(corrected):
    by_widget, by_default = (corrected(settings=s) for s in ({"sensitivity": "few marks"}, {}))
    assert torch.equal(by_widget[0], by_default[0]) and by_widget[2].detection == by_default[2].detection


def test_a_sensitivity_next_to_a_connected_detection_says_that_it_has_no_effect(hands, corrected, detection):
    settings = {"detection": detection(), "sensitivity": "many marks"}
    report = corrected(with_artifact(hands.eps), settings=settings)[2]
    assert report.detection["mode"] == "robust" and report.detection["mad_scale"] == 6.0
    assert "sensitivity has no effect while ASCED Detection is connected." in report.summary()
    silent = corrected(with_artifact(hands.eps), settings={"detection": detection()})[2]
    assert "sensitivity" not in silent.summary()


@pytest.mark.parametrize("sensitivity", ["few marks", "more marks", "many marks"])
def test_a_sensitivity_and_the_preset_of_that_name_are_the_same(corrected, run_node, sensitivity):
    connected = {"detection": run_node("ASCED_Detection", preset=sensitivity)[0]}
    assert corrected(settings={"sensitivity": sensitivity})[2].detection == corrected(settings=connected)[2].detection


def test_every_preset_makes_other_settings_and_decides_only_what_it_says(pack, run_node):
    from asced.asced_core.settings import to_dict
    from asced.nodes import presets

    nodes = {
        "ASCED_Detection": (presets.DETECTION, presets.DECIDED_DETECTION),
        "ASCED_Correction": (presets.CORRECTION, presets.DECIDED_CORRECTION),
    }
    for node_id, (known, decided) in nodes.items():
        options = run_node(node_id)[0]
        default = to_dict(options.settings)
        made = {preset: to_dict(run_node(node_id, preset=preset)[0].settings) for preset in known}
        assert len({tuple(values.items()) for values in made.values()}) == len(known)
        for preset, values in made.items():
            different = {name for name, value in values.items() if value != default[name]}
            assert different <= set(decided), preset
        spec = _inputs(pack[node_id].GET_NODE_INFO_V1())["preset"]
        assert made[spec[1]["default"]] == default  # the first preset is the default


def test_without_a_preset_the_widgets_count(detection):
    assert detection(mode="robust", threshold=2.0).settings.mad_scale == 2.0


@pytest.mark.parametrize(
    ("node_id", "widgets", "sentence"),
    [
        ("ASCED_Detection", {"preset": "portraits"}, "Mode strict, threshold 3, min_area 200, min_width 8."),
        (
            "ASCED_Detection",
            {"preset": "few marks", "threshold": 5.0},
            "With preset few marks, threshold has no effect: choose custom to use it.",
        ),
        (
            "ASCED_Detection",
            {"preset": "video", "mode": "robust", "min_area": 20},
            "With preset video, mode and min_area have no effect: choose custom to use them.",
        ),
        ("ASCED_Detection", {"marked_percent": 5.0}, "marked_percent has no effect."),
        ("ASCED_Detection", {"vae": object()}, "With space auto, vae has no effect."),
        ("ASCED_Detection", {"mode": "paper", "threshold": 5.0}, "With mode paper, threshold has no effect."),
        ("ASCED_Correction", {"preset": "stronger"}, "Method redo."),
        ("ASCED_Correction", {"gamma": 0.3}, "Method ttc, gamma 0.3."),
        (
            "ASCED_Correction",
            {"preset": "usual", "gamma": 0.3, "x0_source": "previous"},
            "With preset usual, gamma and x0_source have no effect: choose custom to use them.",
        ),
        (
            "ASCED_Correction",
            {"preset": "report only", "max_corrected_share": 0.2},
            "With method none, max_corrected_share has no effect.",
        ),
        ("ASCED_Correction", {"method": "clip", "expand": 9}, "With method clip, expand has no effect."),
        ("ASCED_Correction", {"method": "replace", "gamma": 0.1}, "With method replace, gamma has no effect."),
        ("ASCED_Correction", {"strength": 0.0, "gamma": 0.1}, "With strength 0, gamma has no effect."),
        ("ASCED_Correction", {"perturb_in": "pixel"}, "With gamma 0, perturb_in has no effect."),
        ("ASCED_Correction", {"feather": 9, "gamma": 0.1}, "With perturb_in latent, feather has no effect."),
        ("ASCED_Correction", {"vae": object()}, "vae has no effect: only gamma with perturb_in pixel uses it."),
    ],
)
def test_a_settings_node_says_what_it_does_and_which_widgets_have_no_effect(run_node, said, node_id, widgets, sentence):
    run_node(node_id, **widgets)
    assert sentence in said[-1] and "\n" not in said[-1]


@pytest.mark.parametrize("node_id", ["ASCED_Detection", "ASCED_Correction"])
def test_a_preset_with_untouched_widgets_has_nothing_to_remark(pack, run_node, said, node_id):
    inputs = _inputs(pack[node_id].GET_NODE_INFO_V1())
    widgets = {name: spec[1]["default"] for name, spec in inputs.items() if "default" in spec[1]}
    for preset in inputs["preset"][1]["options"] if "options" in inputs["preset"][1] else inputs["preset"][0]:
        run_node(node_id, **{**widgets, "preset": preset})
        assert "effect" not in said[-1], preset


def test_what_a_preset_decides_is_not_checked(run_node):
    assert run_node("ASCED_Detection", preset="few marks", min_area=500, max_area=100)[0].settings.min_area == 100


def test_newer_pages_fold_what_few_people_change(pack):
    from comfy_api.latest import io

    for node_id, shown in {
        "ASCED_Detection": {"preset", "calibration", "marked_percent", "taught"},
        "ASCED_Correction": {"preset", "keep_original"},
    }.items():
        inputs = _inputs(pack[node_id].GET_NODE_INFO_V1())
        widgets = {name: spec[1] for name, spec in inputs.items() if "default" in spec[1]}
        folded = {name for name, spec in widgets.items() if spec.get("advanced")}
        if hasattr(io.Int.Input("any"), "advanced"):
            assert set(widgets) - folded == shown
        else:  # older versions have no such field
            assert folded == set()
