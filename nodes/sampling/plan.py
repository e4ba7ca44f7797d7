"""What one run is watched with: signal, codec, masks and window, all asked of the host before the run starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management
import torch

from ...asced_core import CorrectionSettings, NoiseLevel, Signal, Trajectory
from ...asced_core.maps import BoolMap, frames_of
from ...asced_core.window import INSIDE
from .options import CorrectionChoice, DetectionChoice
from .sampler_function import SamplerFunction
from .spaces import UnwatchableError, VaeCodec, check_vae, colours, make_signal, pixels_per_cell


class Plan:
    """Makes the trajectory of a run.

    Args:
        guider: the host's, with its model loaded.
        function: of the sampler, on the run's noise levels.
        shape: of the latents.
        seed: of the run.
        detection, correction: what was asked for.
        items: index of each item of the batch, see Trajectory.

    Attributes:
        obstacle: why the run cannot be watched; empty if it can.
        signal: what the detector looks at.

    Raises:
        ValueError: a VAE or a mask of the settings does not fit this run.
    """

    def __init__(
        self,
        guider: Any,
        function: SamplerFunction,
        shape: tuple[int, ...],
        seed: int,
        detection: DetectionChoice,
        correction: CorrectionChoice,
        items: Sequence[int] | None,
    ) -> None:
        self._guider, self._patcher, self._function = guider, guider.model_patcher, function
        self._shape, self._seed = shape, seed
        self._detection, self._correction = detection.settings, correction.settings
        self._items = items if items is not None and len(items) == shape[0] else None
        self.signal, self.obstacle = Signal(), function.obstacle()
        if len(shape) not in (4, 5):
            self.obstacle = f"latents with {len(shape)} dimensions (audio or packed) are not supported"
        if self.obstacle:
            return
        self._codec = self._correcting_codec(correction)
        self._forbidden = detection.forbidden(shape[0] * frames_of(shape), *image_size(self._patcher, shape))
        self._judge = self._judge_of(detection)
        codec = None
        if detection.settings.space == "vae":
            check_vae(detection.vae, shape, "Detection in space vae")
            codec = self._codec_of(detection.vae)
        try:
            self.signal = make_signal(self._patcher, shape, detection, codec)
        except UnwatchableError as reason:
            self.obstacle = str(reason)

    def _judge_of(self, detection: DetectionChoice) -> Callable[[torch.Tensor], BoolMap] | None:
        detector = detection.detector
        if detector is None:
            return None
        if frames_of(self._shape) > 1:
            raise ValueError("A detector from a file is for images, and these are videos; disconnect it.")
        check_vae(detection.vae, self._shape, "A detector from a file")
        codec = self._codec_of(detection.vae)
        return lambda denoised: detector(codec.decode(denoised))

    def _correcting_codec(self, correction: CorrectionChoice) -> VaeCodec | None:
        settings = correction.settings
        if not settings.acts or settings.space != "pixel" or settings.gamma == 0:
            return None
        if frames_of(self._shape) > 1:
            raise ValueError("Correction in pixel space is for images, and these are videos; choose space latent.")
        check_vae(correction.vae, self._shape, "Correction in pixel space")
        return self._codec_of(correction.vae)

    def _codec_of(self, vae: Any) -> VaeCodec:
        def reload() -> None:
            others = getattr(self._guider, "loaded_models", [])
            needed = self._patcher.memory_required([2 * self._shape[0], *self._shape[1:]])  # both sides of guidance
            comfy.model_management.load_models_gpu([self._patcher, *others], memory_required=needed)

        return VaeCodec(vae, self._patcher.model, reload)

    def trajectory(self, notes: list[str]) -> Trajectory:
        """A fresh trajectory for one call of the sampler's function; what the user ought to know goes to the notes."""
        sampling = self._patcher.get_model_object("model_sampling")
        start, end, last = self._window(sampling, notes)
        levels = [noise_level(sampling, sigma) for sigma in self._function.sigmas]
        latent_format = self._patcher.get_model_object("latent_format")
        reshaped = getattr(latent_format, "latent_rgb_factors_reshape", None) is not None
        to_rgb = None if reshaped else colours(latent_format)

        def plan(correction: CorrectionSettings) -> Trajectory:
            return Trajectory(
                self._detection, correction, self._function.sigmas, start, end, levels, self._seed, self._items,
                to_rgb, self.signal, self._codec, self._forbidden, last, self._judge,
            )  # fmt: skip

        trajectory = plan(self._correction)
        decisions = trajectory.window.decisions
        if not decisions or not self._correction.acts or self._function.can_enter(decisions[-1]):
            return trajectory
        notes.append(f"Only observed: {self._function.name} cannot start anew so near to its end; take more steps.")
        return plan(replace(self._correction, method="none"))

    def _window(self, sampling: Any, notes: list[str]) -> tuple[float, float, float]:
        """Noise levels of T_d, T_c and T_c's upper limit.

        A run that starts behind T_d (img2img, hires fix) has a window of its own: from its start on, the share of
        what is left that T_d to T_c is of a whole run behind T_d.
        """
        detection, last = self._detection, max(self._correction.last_percent, self._detection.end_percent)
        percents = (detection.start_percent, detection.end_percent, last)
        first = self._function.sigmas[0] if self._function.sigmas else 0.0
        if 0 < first < INSIDE * float(sampling.percent_to_sigma(detection.start_percent)):
            begin = percent_at(sampling, first)
            stretch = (1 - begin) / (1 - percents[0])
            percents = (begin, *(1 - (1 - p) * stretch for p in percents[1:]))  # type: ignore[assignment]
            notes.append(
                f"This run starts at {begin:.0%} of the noise schedule and is watched up to {percents[1]:.0%}."
            )
        start, end, last = (float(sampling.percent_to_sigma(p)) for p in percents)
        if percents[0] != detection.start_percent:
            start = first  # exactly, not as rounded by way of percents
        return min(start, float(sampling.sigma_max)), end, last  # 0 percent is infinity to the host


def percent_at(sampling: Any, sigma: float) -> float:
    """The share of the schedule at a noise level, 0 (pure noise) to 1: the host's ``percent_to_sigma`` turned round."""
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if float(sampling.percent_to_sigma(middle)) > sigma else (low, middle)
    return high


def noise_level(sampling: Any, sigma: float) -> NoiseLevel:
    """Alpha and sigma of a state, asked of the host's own way to make one from an image and noise."""
    at, zero, one = torch.tensor([sigma]), torch.zeros(1, 1), torch.ones(1, 1)
    return NoiseLevel(
        float(sampling.noise_scaling(at, zero.clone(), one)), float(sampling.noise_scaling(at, one.clone(), zero))
    )


def image_size(patcher: Any, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of the decoded images of latents [B,C,…,H,W]; 0 where they are packed."""
    ratio = pixels_per_cell(patcher.get_model_object("latent_format"))
    return (shape[-2] * ratio, shape[-1] * ratio) if len(shape) > 3 else (0, 0)
