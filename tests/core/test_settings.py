"""Settings are validated once, on construction."""

import json

import pytest

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.settings import to_dict


@pytest.mark.parametrize(
    "bad",
    [
        {"mode": "best"},
        {"mad_scale": -1},
        {"mad_scale": float("nan")},
        {"min_area": 200, "max_area": 100},
        {"min_area": 100, "max_area": 100},
        {"min_width": 2.5},
        {"min_width": True},
        {"expand": -1},
        {"start_percent": 0.5, "end_percent": 0.5},
        {"start_percent": -0.1},
        {"end_percent": 1.1},
        {"base_size": 0},
        {"max_area": "large"},
    ],
)
def test_invalid_detection_settings_are_rejected_with_one_sentence(bad):
    with pytest.raises(ValueError) as error:
        DetectionSettings(**bad)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    assert any(name in text for name in bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"method": "magic"},
        {"gamma": -0.1},
        {"strength": 1.5},
        {"expand": 1.5},
        {"x0_source": "next"},
        {"x0_source": "previous", "method": "redo"},
    ],
)
def test_invalid_correction_settings_are_rejected_with_one_sentence(bad):
    with pytest.raises(ValueError) as error:
        CorrectionSettings(**bad)
    assert next(iter(bad)) in str(error.value)


def test_sizes_scale_with_the_signal_except_in_reference():
    assert DetectionSettings().scale(64, 64) == 0.25
    assert DetectionSettings().scale(128, 512) == 1.0
    assert DetectionSettings(mode="reference").scale(64, 64) == 1.0
    assert DetectionSettings(mode="reference", base_size=256).scale(512, 512) == 2.0


def test_when_a_correction_acts():
    assert CorrectionSettings().acts
    assert not CorrectionSettings(strength=0).acts
    assert not CorrectionSettings(method="none").acts


def test_settings_survive_json():
    settings = DetectionSettings(mode="paper", end_percent=0.6)
    assert DetectionSettings(**json.loads(json.dumps(to_dict(settings)))) == settings
