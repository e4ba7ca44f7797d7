"""``watching``: the block in which a pipeline is watched."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator
from typing import Any

from ...report import Report, RunFacts, unwatched_report
from ...settings import LEARNED, CorrectionSettings, DetectionSettings
from .door import Door, Method, is_watched
from .levels import STEP_NEEDS
from .sampling import Sampling

SIZES = ("height", "width", "num_frames")


class Run:
    """The pipeline calls of a block."""

    def __init__(
        self,
        pipe: Any,
        detection: DetectionSettings,
        correction: CorrectionSettings,
        seed: int,
        items: list[int] | None,
        size: tuple[int, int] | None,
    ) -> None:
        self._reports: list[Report] = []
        self._pipe, self._scheduler = pipe, pipe.scheduler
        self._detection, self._correction, self._seed, self._items = detection, correction, seed, items
        self._sampling: Sampling | None = None
        self._size: dict[str, Any] = {} if size is None else {"height": size[0], "width": size[1]}
        self._doors: list[Door] = []

    @property
    def reports(self) -> list[Report]:
        """One for each pipeline call, in order."""
        sampling = self._sampling
        return [*self._reports, sampling.report()] if sampling is not None and sampling.began else list(self._reports)

    def report(self) -> Report:
        """The report of the last pipeline call.

        Raises:
            ValueError: nothing was sampled in the block.
        """
        reports = self.reports
        if not reports:
            raise ValueError("Nothing was sampled in this block, so there is no report: call the pipeline inside it.")
        return reports[-1]

    def open(self) -> None:
        """Takes up the watch."""
        self._doors.append(Door(self._scheduler, "step", self._step))
        self._doors.append(Door(self._scheduler, "set_timesteps", self._set_timesteps))
        if callable(getattr(self._pipe, "prepare_latents", None)):
            self._doors.append(Door(self._pipe, "prepare_latents", self._prepare_latents))

    def close(self) -> None:
        """Puts everything back, and keeps the reports alone."""
        for door in reversed(self._doors):
            door.close()
        self._doors.clear()
        self._finish()
        if self._pipe.scheduler is not self._scheduler:
            self._reports.append(self._replaced())
        self._pipe = self._scheduler = None

    def _finish(self) -> None:
        if self._sampling is not None:
            self._sampling.close()
        self._reports, self._sampling = self.reports, None

    def _set_timesteps(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._finish()
        result = method(*args, **kwargs)
        fresh = copy.deepcopy(self._scheduler)
        for name in ("step", "set_timesteps"):
            vars(fresh).pop(name, None)  # another tool's patch may lead to the scheduler that was copied
        asked = _bound(fresh.set_timesteps, args, kwargs).arguments
        self._sampling = Sampling(self._pipe, fresh, asked, self._detection, self._correction, self._seed, self._items)
        return result

    def _step(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._sampling is None:
            return method(*args, **kwargs)
        own = type(self._scheduler).step.__get__(self._scheduler)  # its signature names the arguments
        given = _bound(own, args, kwargs)
        if not given.arguments.keys() >= STEP_NEEDS:
            return method(*args, **kwargs)
        return self._sampling.step(method, given, self._size)

    def _prepare_latents(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = _bound(method, args, kwargs).arguments
        self._size |= {name: given[name] for name in SIZES if given.get(name) is not None}
        return method(*args, **kwargs)

    def _replaced(self) -> Report:
        note = "Not watched: the pipeline's scheduler was replaced inside the block; set it before."
        return unwatched_report((0, 1, 1), (), self._detection, self._correction, RunFacts(seed=self._seed), (note,))


def _bound(method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
    """The arguments of a call by name."""
    return inspect.signature(method).bind(*args, **kwargs)


@contextlib.contextmanager
def watching(
    pipe: Any,
    detection: DetectionSettings | None = None,
    correction: CorrectionSettings | None = None,
    seed: int = 0,
    items: list[int] | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[Run]:
    """Watches a pipeline of diffusers, and corrects what it samples, for a block::

        with watching(pipe, seed=7) as run:
            images = pipe("a cat", num_inference_steps=25).images
        print(run.report().summary())

    Where nothing is found, the pipeline returns what it would return without the block, bit for bit. At the end of the
    block the pipeline is as it was, also after an exception.

    Args:
        pipe: a pipeline with a scheduler.
        detection: how artifacts are detected, in the latent; None uses the default settings.
        correction: how they are corrected, by ``ttc`` or ``replace``; None uses the default settings.
        seed: of the corrections' noise.
        items: a number for each image, which together with the seed decides its noise; None means 0, 1, …
        size: height and width of the images in pixels, where latents are packed and the pipeline has no
            ``prepare_latents`` that says it (modular pipelines of Flux and Qwen-Image).

    Raises:
        ValueError: this is no such pipeline, it is already watched, or the settings need what is not available here.
    """
    detection, correction = detection or DetectionSettings(), correction or CorrectionSettings()
    _check(pipe, detection, correction)
    run = Run(pipe, detection, correction, seed, items, size)
    run.open()
    try:
        yield run
    finally:
        run.close()


def _check(pipe: Any, detection: DetectionSettings, correction: CorrectionSettings) -> None:
    scheduler = getattr(pipe, "scheduler", None)
    if not all(callable(getattr(scheduler, name, None)) for name in ("step", "set_timesteps")):
        raise ValueError(
            f"watching needs a pipeline of diffusers with a scheduler, got {type(pipe).__name__}: pass the pipeline "
            "that you call."
        )
    if is_watched(scheduler):
        raise ValueError("This pipeline's scheduler is already watched: end that block first, or give it its own.")
    if not isinstance(detection, DetectionSettings) or not isinstance(correction, CorrectionSettings):
        raise ValueError("Pass detection as DetectionSettings and correction as CorrectionSettings.")
    if detection.mode == LEARNED or detection.space not in ("auto", "latent"):
        raise ValueError(
            "Pipelines of diffusers are watched in their latents, without a taught detector: set space to latent, and "
            "mode to strict or robust."
        )
    if correction.steers or correction.method == "redo":
        raise ValueError(f"Method {correction.method} is not available in diffusers: set method to ttc or replace.")
    if correction.perturb_in == "pixel" and correction.gamma > 0:
        raise ValueError("A perturbation in pixel space is not available in diffusers: set perturb_in to latent.")
