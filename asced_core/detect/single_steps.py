"""The score bank as a stream: value -> difference -> smoothed magnitude -> threshold -> running peak.

Nothing is ever read back to the host here, and no list of frames is kept: a run of any length costs a few
maps. Shapes: B images, C channels, H x W cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..noise import NoiseLevel, score
from ..settings import DetectionSettings
from .lasting import LastingChange, lasting_ratio
from .smoothing import GaussianSmoother, median, smoothing_matrix

MAD_TO_SIGMA = 1.4826  # MAD of a normal distribution to its standard deviation
SMOOTHING = 2.0  # px of a 256-px image
THIN = 2  # where thresholds are only recorded: one row and column in so many, of maps that are smooth over more
MAX_RATIO = 100.0  # ends the scale where a threshold of zero would give infinity


@dataclass(frozen=True)
class _Mode:
    signal: str  # "denoised", "uint8" or "weighted_score"
    smooth: bool
    mix_channels: bool
    median_based: bool  # median + k * 1.4826 * MAD; else the plain MAD of Eq. 4
    mean_floor: bool  # thresholds never lie under the mean of the bank's dynamics
    lasting: bool = False  # cells are marked by the change that lasts; single steps are only recorded


_MODES = {
    "robust": _Mode("denoised", smooth=True, mix_channels=False, median_based=True, mean_floor=True, lasting=True),
    "reference": _Mode("uint8", smooth=True, mix_channels=True, median_based=True, mean_floor=False),
    "paper": _Mode("weighted_score", smooth=False, mix_channels=False, median_based=False, mean_floor=True),
}


def to_uint8_levels(denoised: Tensor) -> Tensor:
    """The authors' frames: [-1, 1] to whole numbers 0..255 by truncation, as float32."""
    return ((denoised.float() + 1) / 2 * 255).clamp(0, 255).trunc()


@dataclass(frozen=True)
class BankResult:
    """What the stream found, still on the device.

    Attributes:
        ratio: [B,H,W] float32; how many times its threshold the strongest change of a cell was, or in ``robust`` the
            change that lasts (lasting.py), at most 100; 0 where no change exceeded it. Its support is the raw mask.
        steps: [4, steps, B] float32; median, MAD and threshold of every difference, and the share of cells
            that exceeded it, 0 to 1 (the paper's Fig. 7).
        floor: [B] float32; the mean of the bank's dynamics, a lower bound of the thresholds in force
            (0 in ``reference``).
    """

    ratio: Tensor
    steps: Tensor
    floor: Tensor


class ScoreBank:
    """Takes one prediction a step, in the order of sampling, and keeps what Eq. 4 needs of it.

    Args:
        settings: mode and threshold.
        shape: (B, C, H, W) of the predictions.
        device: where they live.
        frames: so many neighbours in the batch are the frames of one video.

    Attributes:
        exceeded: bool [B,H,W], the cells whose last change exceeded ``limit``; None before the first one.
        limit: [B] float32, threshold of the last change, not below the mean of all changes up to then.
    """

    def __init__(
        self, settings: DetectionSettings, shape: tuple[int, int, int, int], device: torch.device, frames: int = 1
    ) -> None:
        self.settings, self.shape = settings, shape
        self._mode = _MODES[settings.mode]
        batch, channels, height, width = shape
        scale = settings.scale(height, width)
        sigma = SMOOTHING * scale if self._mode.smooth else 0.0
        mixed = channels if self._mode.mix_channels else None
        # below half a cell the kernel is a single weight
        self._smooth = GaussianSmoother((height, width), sigma if sigma >= 0.5 else 0.0, mixed, device)
        self._thin = THIN if self._mode.lasting and sigma >= 2 * THIN else 1
        self._over_time: Tensor | None = None
        if frames > 1 and settings.smooth_frames > 0:
            matrix = smoothing_matrix(frames, settings.smooth_frames)
            self._over_time = torch.tensor(matrix, dtype=torch.float32, device=device)
        self._lasting = LastingChange((height, width), scale, device) if self._mode.lasting else None
        self._last: Tensor | None = None
        self._peak = torch.zeros(batch, height, width, device=device)
        self._level = torch.zeros(batch, height, width, device=device)
        self._mean_sum = torch.zeros(batch, device=device)
        self._steps: list[Tensor] = []
        self.exceeded: Tensor | None = None
        self.limit = torch.zeros(batch, device=device)

    @property
    def differences(self) -> int:
        """Number of temporal differences seen."""
        return len(self._steps)

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Takes the prediction of the next step.

        Args:
            denoised: predicted clean image [B,C,H,W], any float dtype.
            x: state of the same shape, needed by ``paper``.
            level: noise level of ``x``, needed by ``paper``.
        """
        if tuple(denoised.shape) != self.shape:
            raise ValueError(f"A prediction of shape {tuple(denoised.shape)} came into a bank of {self.shape}.")
        self.push_value(self._value(denoised, x, level))

    def push_value(self, value: Tensor) -> None:
        """Takes a value that is already in the units of the mode's signal, float32 [B,C,H,W]."""
        if self._last is not None:
            self._add(self._over_frames(self._smooth((value - self._last).abs())))
        self._last = value
        if self._lasting is not None:
            self._lasting.push(value)

    def _over_frames(self, maps: Tensor) -> Tensor:
        """Smoothed over the frames of a video."""
        if self._over_time is None:
            return maps
        return (self._over_time @ maps.reshape(-1, len(self._over_time), maps[0].numel())).view_as(maps)

    def replace_last(self, value: Tensor) -> None:
        """The next value is compared with this one, float [B,C,H,W], in place of the one that came last."""
        self._last = value.float()

    def _value(self, denoised: Tensor, x: Tensor | None, level: NoiseLevel | None) -> Tensor:
        if self._mode.signal == "uint8":
            return to_uint8_levels(denoised)
        if self._mode.signal == "denoised":
            return denoised.float()
        if x is None or level is None:
            raise ValueError("Mode paper watches w(t) * s_t and needs the state and its noise level as well.")
        return level.weight * score(x.float(), denoised.float(), level)

    def _add(self, dynamics: Tensor) -> None:
        flat = dynamics[..., :: self._thin, :: self._thin].flatten(1)
        middle = median(flat)
        mad = median((flat - middle[:, None]).abs())
        threshold = middle + self.settings.mad_scale * MAD_TO_SIGMA * mad if self._mode.median_based else mad
        self._mean_sum += flat.mean(1)
        # The floor of the whole bank is known at its end only. A cell counts if one of its changes exceeds both
        # that step's threshold and the floor: so the largest change above its own threshold decides.
        strongest = dynamics.amax(1)
        exceeds = strongest > threshold[:, None, None]
        self._steps.append(torch.stack([middle, mad, threshold, exceeds.float().mean((1, 2))]))
        self.limit = torch.maximum(threshold, self._mean_sum / len(self._steps)) if self._mode.mean_floor else threshold
        self.exceeded = strongest > self.limit[:, None, None]
        above = exceeds & (strongest > self._peak)
        self._peak = torch.where(above, strongest, self._peak)
        self._level = torch.where(above, threshold[:, None, None], self._level)

    def result(self) -> BankResult:
        """What was found up to now; two predictions are the least that can differ.

        Raises:
            ValueError: fewer than two predictions came.
        """
        if not self._steps:
            raise ValueError("Changes over time need at least two predictions in the window.")
        mean = self._mean_sum / len(self._steps)
        floor = mean if self._mode.mean_floor else torch.zeros_like(mean)
        if self._lasting is not None:
            share = self._over_frames(self._lasting.share()[:, None])[:, 0]
            ratio = lasting_ratio(share, self.settings.mad_scale)
        else:
            in_force = torch.maximum(self._level, floor[:, None, None])
            found = (self._peak > 0) & (self._peak > floor[:, None, None])
            ratio = torch.where(found, self._peak / in_force, 0.0)
        return BankResult(ratio.clamp(max=MAX_RATIO), torch.stack(self._steps, dim=1), floor)
