"""User settings, validated once on construction. Every size is in pixels of a 256-px image."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

LASTING = ("strict", "robust")  # modes of lasting change, see detect/lasting.py
MODES = (*LASTING, "reference", "paper")  # that need nothing else
LEARNED = "learned"  # needs a taught detector
RENOISING = ("ttc", "redo", "replace")  # act once, at T_c
STEERING = ("clip", "sargd")  # act at every step of the window
CORRECTIONS = (*RENOISING, *STEERING, "none")
X0_SOURCES = ("current", "previous")
SPACES = ("auto", "latent", "rgb", "taesd", "vae")  # what the detector looks at
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
    """How artifacts are detected.

    Attributes:
        mode: ``strict`` marks little, and nothing that cannot be seen; ``robust`` marks more, for weak models;
            ``reference`` reproduces the authors' code; ``paper`` is Eq. 4 as printed; ``learned`` runs a taught
            detector (asced_core/teach).
        mad_scale: threshold factor k, 0 or more; higher marks less. In ``robust`` a change must last and exceed
            ``0.113 * k`` of the contrast, in ``strict`` 1.6 times as much (lasting.py); in ``reference`` it must
            exceed its step's ``median + k * 1.4826 * MAD``. Ignored by ``paper`` and ``learned``.
        min_area: lower limit of a region's area, exclusive, px^2 of a 256-px image.
        max_area: upper limit of a region's area, exclusive, px^2 of a 256-px image.
        min_width: a region must contain a full square with this side, px of a 256-px image.
        expand: the detected mask is dilated by a square of ``2 * expand + 1``, px of a 256-px image.
        start_percent: T_d, the share of the schedule where watching starts; 0 = pure noise, 1 = clean.
        end_percent: T_c, where watching ends and the correction is applied; same scale.
        space: what the detector looks at: ``latent`` the model's state; ``rgb`` a linear RGB approximation of it;
            ``taesd`` or ``vae`` the image decoded by the tiny or the full decoder; ``auto`` the best one that costs
            next to nothing. Sizes mean the same in every space. ``paper`` needs ``latent`` or ``auto``.
        step_interval: look at only every n-th watched step, 1 or more; saves time with a slow decoder.
        smooth_frames: temporal smoothing of the changes in a video, Gaussian sigma in latent frames; 0 is off.
        min_probability: mode ``learned``: the lowest probability of a fault that counts, 0 to 1, in the network's own
            terms; a taught detector knows which one marks a given share of the images.
        base_size: side of the image that the sizes refer to; they are scaled to the size of the signal.
            None: 256, but in ``reference`` no scaling, as in the authors' code.

    Raises:
        ValueError: a value is out of range, or two values contradict each other.
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
    min_probability: float = 0.5

    def __post_init__(self) -> None:
        _check_choice(self, "mode", (*MODES, LEARNED))
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
            raise ValueError(
                f"Mode paper watches the model's own state: set space to latent or auto, not {self.space}."
            )
        _check_range(self, "min_probability", 0, 1)
        if self.mode == LEARNED and self.space not in ("auto", "latent"):
            raise ValueError(f"A taught detector looks at the latent: set space to latent or auto, not {self.space}.")
        if self.base_size is not None:
            _check_range(self, "base_size", 1, whole=True)
        if self.min_area >= self.max_area:
            raise ValueError(
                f"min_area ({self.min_area}) must be smaller than max_area ({self.max_area}): no region could pass."
            )
        if self.start_percent >= self.end_percent:
            raise ValueError(
                f"start_percent ({self.start_percent}) must be smaller than end_percent ({self.end_percent}): "
                "watching must start before it ends."
            )

    def scale(self, height: int, width: int) -> float:
        """Cells per pixel of the settings, for a signal of this height and width in cells."""
        base = self.base_size if self.base_size is not None else (None if self.mode == "reference" else BASE_SIZE)
        return 1.0 if base is None else math.sqrt(height * width) / base


@dataclass(frozen=True)
class CorrectionSettings:
    """How detected regions are corrected.

    Attributes:
        method: ``ttc`` re-noises them (paper Sec. 3.3); ``redo`` samples them again from T_d on, inside the recorded
            surroundings: it keeps the state of each watched step on the device, and a correction costs one more model
            call for each of them; ``replace`` re-noises the window's first prediction, which predates the artifact
            (state replacement, Sec. 3.3); ``clip`` limits the change of each step (score
            clipping, Sec. 3.3); ``sargd`` replaces them with a guide image (adapted SARGD, Sec. 6.1); ``none`` only
            reports them.
        gamma: perturbation intensity of Eq. 6, 0 or more; the authors' code uses 0, which only re-noises.
        strength: share of the region's noise that is replaced, 0 (no effect) to 1 (TTC).
        expand: the regions are dilated by this much before the correction, px of a 256-px image.
        x0_source: the clean image that is re-noised: ``current`` the prediction at T_c (the paper), ``previous`` the
            prediction of the step before (the authors' code). ``redo`` re-noises the prediction at T_d and accepts only
            ``current``; ``replace`` ignores it.
        perturb_in: what gamma perturbs: ``latent`` the cells, ``pixel`` the decoded image, which is then re-encoded.
            Both are the same if gamma is 0.
        feather: width of the fade-in of a pixel-space perturbation, inside the region's edge, px of a 256-px image.
        max_corrected_share: share of the image, 0 to 1; a mask that covers more is not corrected, because re-noising
            the whole image does not lower the artifact rate (paper Sec. 7.3).

    Raises:
        ValueError: a value is out of range, or two values contradict each other.
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
        if self.method == "redo" and self.x0_source == "previous":
            raise ValueError("Method redo re-noises the prediction at T_d: set x0_source to current, not previous.")

    @property
    def acts(self) -> bool:
        """True if states are re-noised at T_c."""
        return self.method in RENOISING and self.strength > 0

    @property
    def steers(self) -> bool:
        """True if the window's predictions are changed before the sampler uses them."""
        return self.method in STEERING


def to_dict(settings: DetectionSettings | CorrectionSettings) -> dict[str, Any]:
    """Plain values by name, ready for JSON."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}
