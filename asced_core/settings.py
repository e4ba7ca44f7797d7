"""What a user can choose, checked once where it enters. Every size is in pixels of a 256-pixel image."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

MODES = ("robust", "reference", "paper")
RENOISING = ("ttc", "replace")  # at T_c
STEERING = ("clip", "sargd")  # at every step of the window
CORRECTIONS = (*RENOISING, *STEERING, "none")
X0_SOURCES = ("current", "previous")
SPACES = ("auto", "latent", "rgb", "taesd", "vae")  # where the detector looks
PERTURB_IN = ("latent", "pixel")
BASE_SIZE = 256


def _check_range(owner: Any, name: str, low: float, high: float = math.inf, whole: bool = False) -> None:
    value = getattr(owner, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (whole and value != int(value)) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        bound = f"{low} or more" if high == math.inf else f"between {low} and {high}"
        raise ValueError(f"{name} must be {kind} {bound}, got {value!r}.")


def _check_choice(owner: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(owner, name) not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(owner, name)!r}.")


@dataclass(frozen=True)
class DetectionSettings:
    """How artifacts are found.

    Attributes:
        mode: ``robust`` for use, ``reference`` equal to the authors' code, ``paper`` Eq. 4 as printed.
        mad_scale: k of the threshold; higher finds less. In ``robust`` a change must last and be ``0.113 * k`` of the
            contrast (lasting.py), in ``reference`` a step's ``median + k * 1.4826 * MAD``. Not used by ``paper``.
        min_area: regions must be larger than this (strictly), px^2 of a 256-px image.
        max_area: regions must be smaller than this (strictly), px^2 of a 256-px image.
        min_width: regions must hold a full square of this side, px of a 256-px image.
        expand: the found mask grows by a square of ``2 * expand + 1``, px of a 256-px image.
        start_percent: T_d, where watching starts; 0 = pure noise, 1 = clean.
        end_percent: T_c, where watching ends and the correction happens.
        space: where the detector looks: ``latent`` the model's own state; ``rgb`` the colours that a linear map
            makes of it; ``taesd`` and ``vae`` its picture by a small or by the whole decoder; ``auto`` the best
            that costs next to nothing. Sizes mean the same in all of them. ``paper`` needs ``latent`` or ``auto``.
        step_interval: of the watched steps, only every n-th is looked at; for a decoder that is slow.
        smooth_frames: smoothing of the changes over the frames of a video, a Gaussian's sigma in latent frames.
        base_size: image side that the sizes are meant for; the signal's own side is compared with it.
            None: 256 in ``robust`` and ``paper``, and the signal's own size in ``reference``, as in the
            authors' code.

    Raises:
        ValueError: a value is out of its range, or two of them contradict each other.
    """

    mode: str = "robust"
    mad_scale: float = 3.0
    min_area: float = 100
    max_area: float = 10000
    min_width: int = 5
    expand: int = 0
    start_percent: float = 0.20
    end_percent: float = 0.50
    space: str = "latent"
    step_interval: int = 1
    smooth_frames: float = 0.0
    base_size: int | None = None

    def __post_init__(self) -> None:
        _check_choice(self, "mode", MODES)
        _check_range(self, "mad_scale", 0)
        _check_range(self, "min_area", 0)
        _check_range(self, "max_area", 0)
        _check_range(self, "min_width", 0, whole=True)
        _check_range(self, "expand", 0, whole=True)
        _check_range(self, "start_percent", 0, 1)
        _check_range(self, "end_percent", 0, 1)
        _check_choice(self, "space", SPACES)
        _check_range(self, "step_interval", 1, whole=True)
        _check_range(self, "smooth_frames", 0)
        if self.mode == "paper" and self.space not in ("auto", "latent"):
            raise ValueError(f"Mode paper watches the model's own state: choose space latent, not {self.space}.")
        if self.base_size is not None:
            _check_range(self, "base_size", 1, whole=True)
        if self.min_area >= self.max_area:
            raise ValueError(
                f"min_area ({self.min_area}) must be smaller than max_area ({self.max_area}): no region fits."
            )
        if self.start_percent >= self.end_percent:
            raise ValueError(
                f"start_percent ({self.start_percent}) must be smaller than end_percent ({self.end_percent}): "
                "watching starts before it ends."
            )

    def scale(self, height: int, width: int) -> float:
        """f: what a pixel of the settings is worth in cells of a signal of this size."""
        base = self.base_size if self.base_size is not None else (None if self.mode == "reference" else BASE_SIZE)
        return 1.0 if base is None else math.sqrt(height * width) / base


@dataclass(frozen=True)
class CorrectionSettings:
    """What is done to the regions that were found.

    Attributes:
        method: ``ttc`` re-noises them (the paper's Sec. 3.3); ``replace`` puts the window's first prediction there,
            from before the artifact, and re-noises that (state replacement, Sec. 3.3); ``clip`` limits each step's
            change (score clipping, Sec. 3.3); ``sargd`` lets a guide image take their place (adapted SARGD,
            Sec. 6.1); ``none`` only reports them.
        gamma: perturbation intensity of Eq. 6, 0 or more; the authors' code has 0, which only re-noises.
        strength: share of the region's noise that is replaced, 0 (nothing happens) to 1 (TTC).
        expand: the regions grow by this before they are corrected, px of a 256-px image.
        x0_source: the clean image that is re-noised: ``current`` the prediction at T_c (the paper),
            ``previous`` the one of the step before (the authors' code).
        perturb_in: where gamma perturbs: ``latent`` the cells, ``pixel`` the decoded picture, which is encoded again.
            With gamma 0 they are the same.
        feather: in pixel space the perturbation fades in over this width inside a region's edge, px of a 256-px image.
        max_corrected_share: share of the image, 0 to 1; a mask that covers more is not corrected, because correcting
            the whole image keeps the artifact rate (paper Sec. 7.3).

    Raises:
        ValueError: a value is out of its range.
    """

    method: str = "ttc"
    gamma: float = 0.0
    strength: float = 1.0
    expand: int = 5
    x0_source: str = "current"
    perturb_in: str = "latent"
    feather: int = 4
    max_corrected_share: float = 0.5

    def __post_init__(self) -> None:
        _check_choice(self, "method", CORRECTIONS)
        _check_choice(self, "x0_source", X0_SOURCES)
        _check_range(self, "gamma", 0)
        _check_range(self, "strength", 0, 1)
        _check_range(self, "expand", 0, whole=True)
        _check_choice(self, "perturb_in", PERTURB_IN)
        _check_range(self, "feather", 0, whole=True)
        _check_range(self, "max_corrected_share", 0, 1)

    @property
    def acts(self) -> bool:
        """True if states are re-noised at T_c."""
        return self.method in RENOISING and self.strength > 0

    @property
    def steers(self) -> bool:
        """True if the predictions of the window are changed on their way to the sampler."""
        return self.method in STEERING


def to_dict(settings: DetectionSettings | CorrectionSettings) -> dict[str, Any]:
    """Plain values by name, for JSON."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}
