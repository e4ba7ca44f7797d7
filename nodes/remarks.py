"""What the settings nodes say: the settings in short, and which changed widgets have no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..asced_core.report.outcome import enumerated
from ..asced_core.settings import STEERING, CorrectionSettings, DetectionSettings, to_dict
from .presets import CUSTOM, FEW, SENSITIVITIES
from .sampling.options import DEFAULT_CORRECTION, DEFAULT_DETECTION

SHOWN = {"mad_scale": "threshold"}  # settings whose widget has another name
BY_DYNAMICS = ("mode", "mad_scale", "min_area", "max_area", "min_width", "smooth_frames")  # not by a given detector
NOT_TAUGHT = ("mode", "mad_scale", "smooth_frames")


def in_short(settings: DetectionSettings | CorrectionSettings) -> str:
    """The settings that matter most, and all that are not at their default, such as ``Method ttc, gamma 0.2.``"""
    if isinstance(settings, CorrectionSettings):
        first, names = "method", changed(to_dict(settings), DEFAULT_CORRECTION.settings)
        names = [name for name in names if not any(name in idle for idle in _idle(settings).values())]
    else:
        first, names = "mode", changed(to_dict(settings), DEFAULT_DETECTION.settings)
        names = [name for name in names if name != "mad_scale"]
        names = names if settings.mode == "paper" else ["mad_scale", *names]
    shown = [_with_value(settings, name) for name in names if name != first]
    return ", ".join([_with_value(settings, first).capitalize(), *shown]) + "."


def changed(widgets: Mapping[str, Any], default: DetectionSettings | CorrectionSettings) -> list[str]:
    """Names of the settings that are not at their default, in the order of the settings."""
    return [name for name, value in to_dict(default).items() if widgets.get(name, value) != value]


def without_effect(reason: str, names: Iterable[str], advice: str = "") -> str:
    """``With mode paper, threshold has no effect.``; empty without names."""
    shown = [SHOWN.get(name, name) for name in names]
    if not shown:
        return ""
    sentence = f"With {reason}, {enumerated(shown)} {'has' if len(shown) == 1 else 'have'} no effect"
    return f"{sentence}: {advice}." if advice else f"{sentence}."


def overruled(
    preset: str, widgets: Mapping[str, Any], settings: DetectionSettings | CorrectionSettings, default: Any
) -> str:
    """A sentence about widgets that were changed to something else than the preset decides; empty without any."""
    names = [name for name in changed(widgets, default) if widgets[name] != getattr(settings, name)]
    return without_effect(f"preset {preset}", names, f"choose {CUSTOM} to use {'it' if len(names) == 1 else 'them'}")


def given_detector(preset: str, settings: DetectionSettings) -> str:
    """About settings that a connected detector does not use; empty if all are at their defaults."""
    return without_effect("a connected detector", _by(preset, settings, BY_DYNAMICS))


def taught_detector(preset: str, settings: DetectionSettings) -> str:
    """About settings that a taught detector does not use, or was not taught with; empty if there are none."""
    default = DEFAULT_DETECTION.settings
    unused = without_effect("a taught detector", _by(preset, settings, NOT_TAUGHT))
    begin, end = default.start_percent, default.end_percent
    if (settings.start_percent, settings.end_percent) == (begin, end):
        return unused
    window = (
        f"It was taught to look from start_percent {begin:g} to end_percent {end:g}, so with other values it may miss "
        "artifacts."
    )
    return f"{unused} {window}".strip()


def correction_method(settings: CorrectionSettings) -> str:
    """About settings that change nothing, given the others; empty if all of these are at their defaults."""
    touched = changed(to_dict(settings), DEFAULT_CORRECTION.settings)
    sentences = [
        without_effect(reason, [name for name in touched if name in names]) for reason, names in _idle(settings).items()
    ]
    return " ".join(filter(None, sentences))


def _idle(settings: CorrectionSettings) -> dict[str, tuple[str, ...]]:
    """Settings that change nothing, by the reason."""
    pixel, rest = ("perturb_in", "feather"), ("expand", "x0_source", "max_corrected_share")
    if settings.method in (*STEERING, "none"):
        return {f"method {settings.method}": ("gamma", "strength", *pixel, *rest)}
    if settings.strength == 0:
        return {"strength 0": ("gamma", *pixel, *rest)}
    if settings.method == "replace":
        return {"method replace": ("gamma", "x0_source", *pixel)}
    if settings.gamma == 0:
        return {"gamma 0": pixel}
    return {} if settings.perturb_in == "pixel" else {"perturb_in latent": ("feather",)}


def _by(preset: str, settings: DetectionSettings, unused: tuple[str, ...]) -> list[str]:
    names = [name for name in changed(to_dict(settings), DEFAULT_DETECTION.settings) if name in unused]
    return [f"preset {preset}"] if names and preset in SENSITIVITIES and preset != FEW else names


def _with_value(settings: DetectionSettings | CorrectionSettings, name: str) -> str:
    value = getattr(settings, name)
    return f"{SHOWN.get(name, name)} {value if isinstance(value, str) else format(value, 'g')}"
