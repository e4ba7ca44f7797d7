"""The plan of one watched run: space, codec, masks and schedule, all read from ComfyUI before the run starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import torch

from ...asced_core import (
    CorrectionSettings,
    Corrector,
    DetectionSettings,
    NoiseLevel,
    Schedule,
    Space,
    Trajectory,
    Watcher,
)
from ...asced_core.baselines.steering import Steering
from ...asced_core.detect.given import FindMasks
from ...asced_core.detect.learned import Learned
from ...asced_core.detect.run_score import READ_AT, ScoreReader
from ...asced_core.maps import BoolMap, frames_of
from ...asced_core.report.run_trace import Trace
from .options import CorrectionOptions, DetectionOptions, DraftOptions
from .sampler_function import SamplerFunction
from .spaces import UnwatchableError, VaeCodec, check_vae, is_picture, make_space, pixels_per_cell, rgb_matrix


@dataclass(frozen=True)
class Plan:
    """Everything needed to watch a run. Makes a fresh trajectory for each call of the sampler's function.

    Attributes:
        function: the sampler's, on the run's noise levels.
        shape: of the latents.
        schedule: of the run.
        space: what the detector looks at.
        detection: as requested.
        correction: what is done; method none if the sampler cannot be started at T_c.
        seed: of the run.
        items: a number for each item of the batch, see Corrector.
        codec: for a perturbation in pixel space.
        forbidden: where nothing may be found or changed.
        find: another detector, in place of ASCED's own.
        to_rgb: maps a latent to colors for the report's frames, see Trace.
        drafts: how many images are finished; None finishes all.
        notes: what the user should know, in sentences.
    """

    function: SamplerFunction
    shape: tuple[int, ...]
    schedule: Schedule
    space: Space
    detection: DetectionOptions
    correction: CorrectionSettings
    seed: int
    items: Sequence[int]
    codec: VaeCodec | None
    forbidden: BoolMap | None
    find: FindMasks | None
    to_rgb: torch.Tensor | None
    drafts: DraftOptions | None
    notes: tuple[str, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each image; empty if they share the seed of the run."""
        return () if self.drafts is None else self.drafts.seeds

    def trajectory(self) -> Trajectory:
        """A fresh trajectory."""
        drafts, taught = self.drafts, self.detection.taught
        learned = None if taught is None else Learned(taught.network, taught.certainty)
        return Trajectory(
            self.schedule,
            Watcher(self.detection.settings, self.space, self.find, learned),
            Corrector(self.correction, self.seeds or self.seed, self.items, self.codec),
            self.forbidden,
            Trace(self.schedule.steps, self.to_rgb),
            ScoreReader(self.schedule.steps, *((READ_AT, False) if drafts is None else (drafts.decide_at, True))),
            self.detection.keep_predictions,
        )

    def steering(self) -> Steering | None:
        """What changes the predictions at every step; None for methods that act at T_c."""
        if not self.correction.steers:
            return None
        settings = self.detection.settings
        return Steering(self.correction.method, settings, self.schedule.window, self.forbidden, self.find)


def make_plan(
    guider: Any,
    function: SamplerFunction,
    shape: tuple[int, ...],
    seed: int,
    detection: DetectionOptions,
    correction: CorrectionOptions,
    items: Sequence[int],
    drafts: DraftOptions | None = None,
) -> Plan:
    """The plan of one run.

    Args:
        guider: ComfyUI's, with its model loaded.
        function: the sampler's, on the run's noise levels.
        shape: of the latents.
        seed: of the run.
        detection, correction: as requested.
        items: a number for each item of the batch, see Corrector.
        drafts: how many images are finished; None finishes all.

    Raises:
        UnwatchableError: the run cannot be watched; the message is the reason.
        ValueError: a VAE or mask in the settings does not fit this run.
    """
    if reason := function.obstacle():
        raise UnwatchableError(reason)
    patcher, settings = guider.model_patcher, detection.settings
    if len(shape) not in (4, 5):
        raise UnwatchableError(f"latents with {len(shape)} dimensions (audio or packed) are not supported")
    if len(picture_shape(patcher, shape)) < len(shape):
        kind = type(patcher.get_model_object("latent_format")).__name__
        raise UnwatchableError(f"the latents of this model ({kind}) are not images")
    make_codec = _codec_maker(guider, shape)
    if detection.taught is not None and (reason := detection.taught.obstacle(shape[1])):
        raise UnwatchableError(reason)
    codec = _correcting_codec(correction, shape, make_codec)
    forbidden = detection.forbidden(shape[0] * frames_of(shape), *image_size(patcher, shape))
    find = _given_detector(detection, shape, make_codec)
    looking = None
    if settings.space == "vae":
        check_vae(detection.vae, shape, "Detection in space vae")
        looking = make_codec(detection.vae)
    shared = [] if drafts is None else drafts.space
    if not shared:
        shared.append(make_space(patcher, shape, settings, looking))
    schedule = schedule_of(patcher.get_model_object("model_sampling"), function.sigmas, settings)
    acting, decision = correction.settings, schedule.window.decision
    notes: tuple[str, ...] = ()
    if decision is not None and acting.acts and not function.can_enter(decision):
        acting = replace(acting, method="none")
        notes = (
            f"Only watched: {function.name} cannot be restarted this close to the end of the run; use more steps.",
        )
    latent_format = patcher.get_model_object("latent_format")
    reshaped = getattr(latent_format, "latent_rgb_factors_reshape", None) is not None
    return Plan(
        function,
        shape,
        schedule,
        shared[0],
        detection,
        acting,
        seed,
        items,
        codec,
        forbidden,
        find,
        None if reshaped else rgb_matrix(latent_format),
        drafts,
        notes,
    )


def _codec_maker(guider: Any, shape: tuple[int, ...]) -> Callable[[Any], VaeCodec]:
    patcher = guider.model_patcher

    def reload() -> None:
        others = getattr(guider, "loaded_models", [])
        needed = patcher.memory_required([2 * shape[0], *shape[1:]])  # positive and negative together
        comfy.model_management.load_models_gpu([patcher, *others], memory_required=needed)

    return lambda vae: VaeCodec(vae, patcher.model, reload)


def _given_detector(
    detection: DetectionOptions, shape: tuple[int, ...], make_codec: Callable[[Any], VaeCodec]
) -> FindMasks | None:
    detector = detection.detector
    if detector is None:
        return None
    if frames_of(shape) > 1:
        raise ValueError(
            "The connected detector works on images only, but this run makes videos: disconnect the detector."
        )
    check_vae(detection.vae, shape, "The connected detector")
    codec = make_codec(detection.vae)
    return lambda denoised: detector(codec.decode(denoised))


def _correcting_codec(
    correction: CorrectionOptions, shape: tuple[int, ...], make_codec: Callable[[Any], VaeCodec]
) -> VaeCodec | None:
    settings = correction.settings
    if not settings.acts or settings.perturb_in != "pixel" or settings.gamma == 0:
        return None
    if frames_of(shape) > 1:
        raise ValueError("perturb_in pixel works on images only, but this run makes videos: choose perturb_in latent.")
    check_vae(correction.vae, shape, "perturb_in pixel")
    return make_codec(correction.vae)


def schedule_of(sampling: Any, sigmas: Sequence[float], settings: DetectionSettings) -> Schedule:
    """The schedule of a run at these noise levels of ComfyUI.

    Args:
        sampling: ComfyUI's model_sampling.
        sigmas: of the steps and the final state.
        settings: provide the window.

    Raises:
        UnwatchableError: ComfyUI samples at these noise levels, but there is no mix of image and noise at them.
    """
    levels = []
    for sigma in sigmas:
        try:
            level = noise_level(sampling, sigma)
        except ValueError:
            level = None
        if level is None or (level.sigma == 0) != (sigma == 0):
            raise UnwatchableError(f"at noise level {sigma:.4g} this model's state is not a mix of image and noise")
        levels.append(level)

    def sigma_at(percent: float) -> float:
        try:  # foreign samplings may lack what ComfyUI itself does not need
            # 0 percent is infinite in ComfyUI
            sigma = min(float(sampling.percent_to_sigma(percent)), float(sampling.sigma_max))
            return noise_level(sampling, sigma).sigma
        except Exception as error:
            raise UnwatchableError(f"the range of this model's noise levels is unknown ({error})") from error

    return Schedule.of(levels, settings, sigma_at)


def noise_level(sampling: Any, sigma: float) -> NoiseLevel:
    """Alpha and sigma of a state, measured on ComfyUI's own function that adds noise to an image.

    Raises:
        ValueError: the state is not a mix of image and noise.
    """
    at, zero, one = torch.tensor([sigma]), torch.zeros(1, 1), torch.ones(1, 1)
    return NoiseLevel(
        float(sampling.noise_scaling(at, zero.clone(), one)), float(sampling.noise_scaling(at, one.clone(), zero))
    )


def picture_shape(patcher: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of latents [B,C,…,H,W]; only [B,C] if they do not hold images."""
    return tuple(shape if is_picture(patcher.get_model_object("latent_format")) else shape[:2])


def image_size(patcher: Any, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of the decoded images of latents [B,C,…,H,W]; 0 for packed latents and other kinds of data."""
    ratio, shape = pixels_per_cell(patcher.get_model_object("latent_format")), picture_shape(patcher, shape)
    return (shape[-2] * ratio, shape[-1] * ratio) if len(shape) > 3 else (0, 0)
