"""Presets: settings by what a user wants, in place of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..asced_core.settings import CorrectionSettings, DetectionSettings, to_dict
from .sampling.options import DEFAULT_CORRECTION, DEFAULT_DETECTION, DetectionOptions

CUSTOM = "custom"  # every widget counts
FEW = "few marks"  # the default
Values = dict[str, Any]  # of settings, by name

# Shares of marked images: docs/benchmarks/confidence.md (few, many) and sweeps.md (more).
SENSITIVITIES: dict[str, Values] = {
    FEW: {},
    "more marks": {"mode": "robust", "mad_scale": 4.0},
    "many marks": {"mode": "robust", "mad_scale": 3.0},
}
DETECTION: dict[str, Values] = {
    **SENSITIVITIES,
    "portraits": {"min_area": 200, "min_width": 8},
    "whole scenes": {"min_area": 36, "min_width": 3, "max_area": 2500},
    "video": {"smooth_frames": 1.0},
}
USUAL = "usual"  # the default
CORRECTION: dict[str, Values] = {
    USUAL: {},
    "stronger": {"method": "redo"},
    "report only": {"method": "none"},
}
DECIDED_DETECTION = ("mode", "mad_scale", "min_area", "max_area", "min_width", "smooth_frames")
DECIDED_CORRECTION = ("method", "gamma", "strength", "expand", "x0_source")


def detection_values(preset: str, widgets: Mapping[str, Any]) -> Values:
    """The values of DetectionSettings: the widgets', and for what the preset decides, its own."""
    own = {} if preset == CUSTOM else _decided(DEFAULT_DETECTION.settings, DECIDED_DETECTION, DETECTION[preset])
    return {**to_dict(DEFAULT_DETECTION.settings), **widgets, **own}


def correction_values(preset: str, widgets: Mapping[str, Any]) -> Values:
    """The values of CorrectionSettings: the widgets', and for what the preset decides, its own."""
    own = {} if preset == CUSTOM else _decided(DEFAULT_CORRECTION.settings, DECIDED_CORRECTION, CORRECTION[preset])
    return {**to_dict(DEFAULT_CORRECTION.settings), **widgets, **own}


def sensitive(detection: DetectionOptions | None, sensitivity: str) -> DetectionOptions:
    """The DETECTION of a sampler node: the connected one, otherwise the defaults with this sensitivity."""
    if detection is None:
        own = SENSITIVITIES[sensitivity]
        return replace(DEFAULT_DETECTION, settings=replace(DEFAULT_DETECTION.settings, **own))
    if sensitivity == FEW:
        return detection
    return replace(detection, remarks=("sensitivity has no effect while ASCED Detection is connected.",))


def _decided(default: DetectionSettings | CorrectionSettings, names: tuple[str, ...], own: Values) -> Values:
    return {name: getattr(default, name) for name in names} | own
