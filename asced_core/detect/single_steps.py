"""Single-step changes as a stream: value -> difference -> smoothed magnitude -> threshold -> running peak.

The detector of modes ``reference`` (the authors' code) and ``paper`` (Eq. 4 as printed). It runs without a device sync
and keeps no list of frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..noise import NoiseLevel, score
from ..settings import DetectionSettings
from .evidence import MAX_RATIO, Evidence, Shape
from .medians import median_and_mad
from .smoothing import FrameSmoother, GaussianSmoother

MAD_TO_SIGMA = 1.4826  # standard deviation of a normal distribution divided by its MAD
SMOOTHING = 2.0  # Gaussian sigma, px of a 256-px image


@dataclass(frozen=True)
class Rule:
    """Which signal is compared, and with which threshold.

    Attributes:
        signal: ``denoised``, ``uint8`` (the authors' frames) or ``weighted_score`` (``w(t) s_t``).
        smooth: smooth the changes spatially.
        mix_channels: smooth over the channels too, as the authors' code does.
        median_based: the threshold is ``median + k * 1.4826 * MAD``; otherwise the plain MAD of Eq. 4.
        mean_floor: no threshold is below the mean of all changes.
    """

    signal: str
    smooth: bool = True
    mix_channels: bool = False
    median_based: bool = True
    mean_floor: bool = True


REFERENCE = Rule("uint8", mix_channels=True, mean_floor=False)
PAPER = Rule("weighted_score", smooth=False, median_based=False)
PLAIN = Rule("denoised")  # for baselines that act on single steps
RULES = {"reference": REFERENCE, "paper": PAPER}


def to_uint8_levels(denoised: Tensor) -> Tensor:
    """The authors' frames: [-1, 1] mapped to 0..255 and truncated to integers, as float32."""
    return (denoised.float() + 1).div_(2).mul_(255).clamp_(0, 255).trunc_()


class SingleSteps:
    """Marks the cells where any single change exceeds the threshold of its step (Eq. 4).

    Args:
        settings: mode, threshold, and scale of the sizes.
        shape: (B, C, H, W) of the predictions.
        device: device of the predictions.
        frames: number of consecutive batch entries that are frames of one video.
        rule: signal and threshold; None uses the rule of the settings' mode.
    """

    def __init__(
        self,
        settings: DetectionSettings,
        shape: Shape,
        device: torch.device,
        frames: int = 1,
        rule: Rule | None = None,
    ) -> None:
        self.settings, self.shape = settings, shape
        self._rule = rule or RULES[settings.mode]
        batch, channels, height, width = shape
        sigma = SMOOTHING * settings.scale(height, width) if self._rule.smooth else 0.0
        mixed = channels if self._rule.mix_channels else None
        self._smooth = GaussianSmoother((height, width), sigma, mixed, device)
        self._over_frames = FrameSmoother(frames, settings.smooth_frames, device)
        self._last: Tensor | None = None
        self._peak = torch.zeros(batch, height, width, device=device)
        self._level = torch.zeros(batch, height, width, device=device)
        self._mean_sum = torch.zeros(batch, device=device)
        self._thresholds: list[Tensor] = []

    @property
    def ready(self) -> bool:
        """True after two predictions."""
        return bool(self._thresholds)

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Adds the prediction of the next step; see Detector.

        Raises:
            ValueError: the shape differs, or mode ``paper`` gets no state or noise level.
        """
        if tuple(denoised.shape) != self.shape:
            raise ValueError(f"Expected a prediction of shape {self.shape}, got {tuple(denoised.shape)}.")
        self.push_value(self._value(denoised, x, level))

    def push_value(self, value: Tensor) -> None:
        """Adds a value that is already in the units of the rule's signal, float32 [B,C,H,W]."""
        if self._last is not None:
            self._add(self._over_frames(self._smooth((value - self._last).abs_())))
        self._last = value

    def _value(self, denoised: Tensor, x: Tensor | None, level: NoiseLevel | None) -> Tensor:
        if self._rule.signal == "uint8":
            return to_uint8_levels(denoised)
        if self._rule.signal == "denoised":
            return denoised.float()
        if x is None or level is None:
            raise ValueError("Mode paper watches w(t) * s_t: pass the state and its noise level, too.")
        return level.weight * score(x.float(), denoised.float(), level)

    def _add(self, dynamics: Tensor) -> None:
        strongest, flat = dynamics.amax(1), dynamics.flatten(1)
        if self._rule.mean_floor:
            self._mean_sum += flat.mean(1)
        middle, mad = median_and_mad(flat)  # from here on the changes are overwritten
        threshold = middle + self.settings.mad_scale * MAD_TO_SIGMA * mad if self._rule.median_based else mad
        self._thresholds.append(threshold)
        # The floor is only known at the end. A cell is marked if one of its changes exceeds both that step's threshold
        # and the floor, so the largest change above its own threshold decides.
        self._compare(strongest, threshold[:, None, None])

    def _compare(self, strongest: Tensor, threshold: Tensor) -> None:
        above = strongest > torch.maximum(threshold, self._peak)
        self._peak = torch.where(above, strongest, self._peak)
        self._level = torch.where(above, threshold, self._level)

    def _floor(self) -> Tensor:
        """Lower bound of the thresholds [B], from the changes so far."""
        mean = self._mean_sum / max(1, len(self._thresholds))
        return mean if self._rule.mean_floor else torch.zeros_like(mean)

    def result(self) -> Evidence:
        """The evidence so far.

        Raises:
            ValueError: there are fewer than two predictions.
        """
        if not self.ready:
            raise ValueError("Detection needs at least two predictions in the window.")
        floor = self._floor()
        found = (self._peak > 0) & (self._peak > floor[:, None, None])
        ratio = torch.where(found, self._peak / torch.maximum(self._level, floor[:, None, None]), 0.0)
        thresholds = torch.stack(self._thresholds, dim=1)
        return Evidence(ratio.clamp(max=MAX_RATIO), torch.maximum(thresholds, floor[:, None]))

    def so_far(self, image: int) -> Tensor:
        """The cells of one image above the threshold, bool [H,W]; see Detector."""
        return self.result().ratio[image] > 0
