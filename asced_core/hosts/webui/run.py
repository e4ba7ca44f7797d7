"""One sampling run of a WebUI, from its start to its report.

A WebUI's sampler object calls a function in the style of k-diffusion, ``func``. For one run, ours takes its place: it
has the same signature, which the WebUI reads to find out what to pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, update_wrapper
from typing import Any

import torch
from torch import Tensor

from ...correct import Corrector
from ...detect import Watcher
from ...maps import frames_of
from ...report import Report, RunFacts, unwatched_report
from ...report.outcome import plural
from ...settings import CorrectionSettings, DetectionSettings
from ...trajectory import Trajectory
from ...window import Schedule
from .levels import Scale
from .live import Live

PIXELS = 8  # of the image, for one cell of the latent


@dataclass(frozen=True)
class Task:
    """What is known of a run before it starts.

    Attributes:
        sampler: its name, as shown to users.
        detection, correction: what the user chose.
        scale: noise levels of the model; None if they are unknown.
        seeds: one for each image.
        items: a number for each image, see Corrector.
        rng: where the WebUI's samplers take their noise from.
        model: what identifies the checkpoint.
    """

    sampler: str
    detection: DetectionSettings
    correction: CorrectionSettings
    scale: Scale | None
    seeds: Sequence[int]
    items: Sequence[int]
    rng: Any = None
    model: str = ""


class Run:
    """Watches the next run of a sampler object.

    Args:
        task: how it is watched.
        sampler: the WebUI's ``p.sampler``; its ``func`` is replaced until it is called.
    """

    def __init__(self, task: Task, sampler: Any) -> None:
        self._task, self._sampler = task, sampler
        self._function: Any = getattr(sampler, "func", None)
        self._report: Report | None = None
        if callable(self._function):
            sampler.func = self._ours = update_wrapper(partial(self._sample), self._function)

    def detach(self) -> None:
        """Gives the sampler its own function back."""
        if callable(self._function) and self._sampler.func is self._ours:
            self._sampler.func = self._function

    @property
    def report(self) -> Report:
        """Of the run, as soon as it has ended."""
        if self._report is not None:
            return self._report
        note = f"Not watched: sampler {self._task.sampler} has its own sampling loop."
        nowhere = torch.zeros(len(self._task.seeds), 1, 1, 1)
        return self._unwatched(nowhere, (), replace(self._facts(nowhere), image_size=(0, 0)), (note,))

    def _sample(self, model: Any, x: Tensor, **options: Any) -> Tensor:
        """Replaces the sampler's function; same arguments, and the same result if nothing is corrected."""
        self.detach()
        schedule, reason = self._schedule(x, options)
        if schedule is None or schedule.window.decision is None:
            notes = (reason,) if schedule is None else schedule.window.notes
            try:
                return self._function(model, x, **options)
            finally:
                self._report = self._unwatched(x, () if schedule is None else schedule.sigmas, self._facts(x), notes)
        task = self._task
        trajectory = Trajectory(
            schedule, Watcher(task.detection), Corrector(task.correction, list(task.seeds), list(task.items))
        )
        live = Live(task.sampler, self._function, trajectory, model, x, task.rng, options)
        try:
            return live.sample()
        finally:  # the WebUI interrupts a run by an exception, and shows the images as far as they are
            self._report = self._reported(x, live)

    def _schedule(self, x: Tensor, options: dict[str, Any]) -> tuple[Schedule | None, str]:
        """The schedule of the run; otherwise why it is not watched."""
        task, sigmas = self._task, options.get("sigmas")
        if not isinstance(sigmas, Tensor) or "sigmas" not in _parameters(self._function):
            return None, f"Not watched: sampler {task.sampler} makes its own steps; choose Euler, DPM++ or another one."
        if x.ndim not in (4, 5) or len(x) != len(task.seeds):
            return (
                None,
                f"Not watched: latents of shape {tuple(x.shape)} for {plural(len(task.seeds), 'seed')} are unknown.",
            )
        if task.scale is None:
            return None, "Not watched: the noise levels of this model are unknown."
        levels = []
        for sigma in sigmas.tolist():
            try:
                levels.append(task.scale.level(sigma))
            except ValueError:
                return (
                    None,
                    f"Not watched: at noise level {sigma:.4g} the model's state is not a mix of image and noise.",
                )
        return Schedule.of(levels, task.detection, task.scale.sigma_at), ""

    def _facts(self, x: Tensor, **facts: Any) -> RunFacts:
        return RunFacts(
            sampler=self._task.sampler,
            seed=int(self._task.seeds[0]) if self._task.seeds else 0,
            image_size=(PIXELS * x.shape[-2], PIXELS * x.shape[-1]),
            frames=frames_of(x.shape),
            model=self._task.model,
            **facts,
        )

    def _reported(self, x: Tensor, live: Live) -> Report:
        facts = self._facts(
            x,
            model_calls=live.watched.calls,
            extra_model_calls=live.watched.extra_calls,
            seconds_model=live.stopwatch.seconds("model"),
            seconds_asced=live.stopwatch.seconds("asced"),
        )
        trajectory = live.trajectory
        if trajectory.decision is not None:
            return trajectory.report(facts, tuple(live.notes))
        schedule = trajectory.schedule
        return self._unwatched(x, schedule.sigmas, facts, (*schedule.window.notes, *live.notes))

    def _unwatched(self, x: Tensor, sigmas: tuple[float, ...], facts: RunFacts, notes: tuple[str, ...]) -> Report:
        size = (len(x) * frames_of(x.shape), x.shape[-2], x.shape[-1])
        return unwatched_report(size, sigmas, self._task.detection, self._task.correction, facts, notes)


def _parameters(function: Callable[..., Any]) -> Sequence[str]:
    return list(inspect.signature(function).parameters)
