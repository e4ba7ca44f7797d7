"""Runs of a model that a detector learns from, with ComfyUI's own loading, conditioning, guidance and patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import numpy as np
import torch
from torch import Tensor

from ...asced_core import Schedule
from ...asced_core.kdiffusion import GlobalGenerators
from ...asced_core.maps import as_images, as_videos, frames_of
from ...asced_core.noise import Predict
from ...asced_core.teach import Material, grow_faults, show_pictures
from .options import DEFAULT_DETECTION
from .patch import unpatched
from .plan import picture_shape, schedule_of
from .seeds import seeds_from
from .spaces import UnwatchableError

BATCH = 4  # images of a batch, if the latent holds a single one
FRAMES = 4  # of a video that are kept; they differ little


@dataclass(frozen=True)
class Lesson:
    """How the runs are made.

    Attributes:
        model: ComfyUI's ModelPatcher, without a patch of ours.
        positive, negative: CONDITIONING.
        cfg: guidance scale.
        sigmas: ComfyUI's noise levels.
        schedule: the same, with the window; there is a decision.
        latent: an empty batch [B,C,H,W] or [B,C,T,H,W].
        seed: of the first batch; the others follow.
    """

    model: Any
    positive: Any
    negative: Any
    cfg: float
    sigmas: Tensor
    schedule: Schedule
    latent: Tensor
    seed: int

    def grow(self, number: int, count: int) -> Material:
        """Runs with the noise of one seed, each with and without faults; the first ``count`` of the batch are kept."""
        frames = frames_of(tuple(self.latent.shape))
        shown = sorted(set(np.linspace(0, frames - 1, min(frames, FRAMES)).round().astype(int).tolist()))
        kept = [place * frames + frame for place in range(count) for frame in shown]
        rng = np.random.default_rng((self.seed, number))

        def work(predict: Predict, x: Tensor) -> Material:
            return grow_faults(predict, x, self.schedule.levels, self.schedule.window, rng, kept=kept)

        return self._run(len(self.latent), seeds_from(self.seed, number + 1)[-1], work)

    def show(self, number: int, clean: Tensor) -> Material:
        """What the model predicts of noised pictures [N,C,H,W], with and without faults."""
        rng = np.random.default_rng((self.seed, number, 1))

        def work(predict: Predict, x: Tensor) -> Material:
            return show_pictures(predict, clean.to(x), self.schedule.levels, self.schedule.window, rng)

        return self._run(len(clean), self.seed, work)

    def _run(self, batch: int, seed: int, work: Callable[[Predict, Tensor], Material]) -> Material:
        """Does the work in place of a sampler's function; the global random generators stay as they are."""
        made: list[Material] = []

        def function(model: Any, x: Tensor, sigmas: Tensor, extra_args: dict[str, Any] | None = None, *_: Any,
                     **__: Any) -> Tensor:  # fmt: skip
            frames, extra = frames_of(tuple(x.shape)), extra_args or {}

            def predict(images: Tensor, step: int) -> Tensor:
                comfy.model_management.throw_exception_if_processing_interrupted()
                state = images if x.ndim == 4 else as_videos(images, frames)
                return as_images(model(state, sigmas[step] * state.new_ones(len(state)), **extra))

            made.append(work(predict, as_images(x)))
            return x

        latent = self.latent[:1].expand(batch, *self.latent.shape[1:]).clone()
        # the noise that ComfyUI makes of a seed, with a generator of our own
        noise = torch.randn(latent.shape, dtype=latent.dtype, generator=torch.Generator().manual_seed(seed))
        generators = GlobalGenerators(self.model.load_device)
        before = generators.read()
        try:
            comfy.sample.sample_custom(
                self.model, noise, self.cfg, comfy.samplers.KSAMPLER(function), self.sigmas, self.positive,
                self.negative, latent, disable_pbar=True, seed=seed,
            )  # fmt: skip
        finally:
            generators.write(before)
        return made[-1]


def make_lesson(
    model: Any,
    positive: Any,
    negative: Any,
    latent: dict[str, Any],
    steps: int,
    cfg: float,
    scheduler: str,
    seed: int,
) -> Lesson:
    """A lesson with KSampler's widgets.

    Args:
        model: ComfyUI's ModelPatcher.
        positive, negative: CONDITIONING.
        latent: a LATENT, for its size and number of images.
        steps, cfg, scheduler, seed: as in KSampler.

    Raises:
        ValueError: the latent holds no images, or the run has no window to learn from.
    """
    given = latent["samples"]
    if getattr(given, "is_nested", False):
        raise ValueError("Video with audio cannot be taught: connect a LATENT of images or video.")
    empty = comfy.sample.fix_empty_latent_channels(model, torch.zeros(given.shape))
    shape = tuple(empty.shape)
    if len(shape) not in (4, 5) or len(picture_shape(model, shape)) < len(shape):
        kind = type(model.get_model_object("latent_format")).__name__
        raise ValueError(
            f"Latents of shape {tuple(given.shape)} ({kind}) are not images: connect a LATENT of images or video."
        )
    if len(empty) == 1 and len(shape) == 4:
        empty = empty.repeat(BATCH, 1, 1, 1)
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
    try:
        schedule = schedule_of(sampling, _plain(sigmas), DEFAULT_DETECTION.settings)
    except UnwatchableError as reason:
        raise ValueError(f"This model cannot be taught, because {reason}: use another model or scheduler.") from None
    if schedule.window.decision is None:
        raise ValueError(" ".join(schedule.window.notes))
    return Lesson(unpatched(model), positive, negative, cfg, sigmas, schedule, empty, seed)


def _plain(sigmas: Tensor) -> Sequence[float]:
    values: list[float] = sigmas.tolist()
    return values
