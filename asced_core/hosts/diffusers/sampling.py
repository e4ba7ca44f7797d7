"""One pipeline call: what is watched of it, when it is corrected, and its report."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...maps import frames_of
from ...noise import clean_image
from ...report import Report, RunFacts, unwatched_report
from ...settings import CorrectionSettings, DetectionSettings
from ...trajectory import Trajectory
from .again import Again, UnrepeatableError
from .door import Method
from .fork import Fork, same_noise
from .layout import Layout, cell, find_layout
from .levels import Levels, UnwatchableError, read_levels

OTHER_WAY = "set x0_source to previous, which needs no second call of the model"


class Sampling:
    """The run that follows one ``set_timesteps``.

    Args:
        pipe: the pipeline.
        scheduler: a copy of its scheduler that has the timesteps and has not stepped yet.
        asked: the arguments of ``set_timesteps``.
        detection, correction, seed, items: as for ``watching``.
    """

    def __init__(
        self,
        pipe: Any,
        scheduler: Any,
        asked: Mapping[str, Any],
        detection: DetectionSettings,
        correction: CorrectionSettings,
        seed: int,
        items: list[int] | None,
    ) -> None:
        self._pipe, self._scheduler, self._asked = pipe, scheduler, asked
        self._detection, self._correction, self._seed, self._items = detection, correction, seed, items
        self._trajectory: Trajectory | None = None
        self._levels: Levels | None = None
        self._layout = Layout()
        self._again = Again(pipe)
        self._fork: Fork | None = None
        self._notes: list[str] = []
        self._place = self._first = -1  # in the timesteps: of this step, and of the run's first
        self._shape: tuple[int, ...] = ()
        self._calls = self._extra = 0
        self._seen = self._lost = False  # whether a step was looked at, and whether the run jumped since
        self._seconds = 0.0

    @property
    def began(self) -> bool:
        """True once a step was taken."""
        return bool(self._shape)

    @property
    def _followed(self) -> Trajectory | None:
        """The trajectory, as long as it can be followed."""
        return None if self._lost else self._trajectory

    @property
    def _index(self) -> int:
        """The run's own number of this step."""
        return self._place - self._first

    def step(self, method: Method, given: inspect.BoundArguments, asked: Mapping[str, Any]) -> Any:
        """One step of the pipeline's scheduler.

        Args:
            method: the scheduler's own ``step``.
            given: its arguments.
            asked: size of the images in pixels, as far as it is known.
        """
        started = time.perf_counter()
        x = given.arguments["sample"]
        self._calls += 1
        if not self.began:
            self._begin(x, given.arguments["timestep"], asked)
            self._shape = tuple(self._layout.images(x).shape)
        elif self._followed is not None:
            self._go_on(x, given.arguments["timestep"])
        if self._followed is not None:
            self._look(self._followed, given)
        self._again.close()
        self._seconds += time.perf_counter() - started
        result = self._advance(method, given)
        started = time.perf_counter()
        if self._followed is not None:
            result = self._correct_early(self._followed, result)
            self._listen(self._followed)
        self._seconds += time.perf_counter() - started
        return result

    def _begin(self, x: Tensor, t: Any, asked: Mapping[str, Any]) -> None:
        """Finds out where the run starts, and what can be watched of it."""
        try:
            self._layout = find_layout(self._pipe, x, asked)
            self._levels = read_levels(self._scheduler, self._asked)
            self._first = self._place = self._place_of(self._levels, t)
            if self._first >= len(self._levels.times):
                raise UnwatchableError("Not watched: the run starts behind the end of its schedule.")
            levels = self._levels.levels[self._first :]
            self._trajectory = Trajectory.begin(
                levels, self._levels.training, self._detection, self._correction, self._seed, self._items
            )
        except UnwatchableError as reason:
            self._notes.append(str(reason))

    def _go_on(self, x: Tensor, t: Any) -> None:
        """Follows the pipeline to its next step; from a jump on, nothing is looked at any more."""
        assert self._levels is not None
        assert self._trajectory is not None
        try:
            place = self._place_of(self._levels, t)
        except UnwatchableError:
            place = -1
        same_size = tuple(self._layout.images(x).shape) == self._shape
        if same_size and place == self._place + 1 < len(self._levels.times):
            self._place = place
            return
        self._lost, self._fork = True, None
        word = "Not watched" if self._trajectory.decision is None else "Not followed to the end"
        what = "does not take the steps of its schedule one after another" if same_size else "changes the latents' size"
        self._notes.append(f"{word}: the pipeline {what}.")

    def _place_of(self, levels: Levels, t: Any) -> int:
        """The place of a step in the timesteps, without waiting for the device where the scheduler counts itself."""
        scheduler = self._pipe.scheduler
        for name in ("step_index", "begin_index"):
            if isinstance(place := getattr(scheduler, name, None), int):
                return place
        now, following = float(t), self._place + 1
        if 0 < following < len(levels.times) and levels.times[following] == now:
            return following
        if now not in levels.times:
            raise UnwatchableError(f"Not watched: timestep {now:g} is none of the scheduler's.")
        return levels.times.index(now)

    def _clean(self, output: Tensor, x: Tensor) -> Tensor:
        """The predicted clean images of a model output."""
        assert self._levels is not None
        level = self._levels.levels[self._place]
        if x.shape != output.shape:
            output = output[:, : x.shape[1]]  # a variance follows
        return self._layout.images(clean_image(x, output, level, self._levels.prediction))

    def _look(self, trajectory: Trajectory, given: inspect.BoundArguments) -> None:
        """Shows a step to the trajectory; at T_c, puts the corrected state and its output in place."""
        assert self._levels is not None
        output, x = given.arguments["model_output"], given.arguments["sample"]
        if self._levels.levels[self._place].alpha == 0 and self._levels.prediction == "epsilon":
            return  # such a state says nothing of the image
        clean = self._clean(output, x)
        trajectory.observe(self._index, self._layout.images(x), clean)
        self._seen = True
        if not trajectory.is_due(self._index):
            return
        decision = trajectory.decide()
        if not decision.acts:
            return
        fixed = self._layout.back(trajectory.correct(decision, self._layout.images(x), clean))
        try:
            again = self._again(given.arguments["timestep"], x, fixed, output)
        except UnrepeatableError as reason:
            trajectory.leave_alone()
            self._notes.append(f"Not corrected: {reason}; {OTHER_WAY}.")
            return
        self._extra += 1
        places = decision.places(x)
        x, output = torch.where(places, fixed, x), torch.where(places, again, output)
        given.arguments["sample"], given.arguments["model_output"] = x, output
        self._fork = Fork(self._scheduler, self._place, places)
        trajectory.observe(self._index, self._layout.images(x), self._clean(output, x))

    def _advance(self, method: Method, given: inspect.BoundArguments) -> Any:
        """The scheduler's step, of both schedulers once images are corrected."""
        if self._fork is None:
            return method(*given.args, **given.kwargs)
        with same_noise(given.arguments.get("generator"), given.arguments["sample"].device):
            theirs = self._fork.step(given)
        return self._fork.merged(method(*given.args, **given.kwargs), theirs)

    def _correct_early(self, trajectory: Trajectory, result: Any) -> Any:
        """Corrects the state of T_c before the model sees it, if nothing of T_c is needed for that."""
        if not trajectory.is_due_early(self._index) or not (decision := trajectory.decide()).acts:
            return result
        x = result[0]
        images = self._layout.images(x)
        fixed = self._layout.back(trajectory.correct(decision, images)).to(x.dtype)
        places = decision.places(x)
        self._fork = Fork(self._scheduler, self._place + 1, places)
        x = torch.where(places, fixed, x)
        if isinstance(result, tuple):
            return (x, *result[1:])
        result["prev_sample"] = x
        return result

    def _listen(self, trajectory: Trajectory) -> None:
        """Records the model's calls of the next step if they may have to be repeated."""
        due = trajectory.schedule.window.decision == self._index + 1 and trajectory.decision is None
        if due and self._correction.acts:
            self._again.listen()

    def close(self) -> None:
        """Takes the hooks away."""
        self._again.close()

    def report(self) -> Report:
        """The report of the steps so far."""
        frames, side = frames_of(self._shape), cell(self._pipe)
        facts = RunFacts(
            sampler=type(self._scheduler).__name__,
            seed=self._seed,
            model_calls=self._calls + self._extra,
            extra_model_calls=self._extra,
            seconds_asced=self._seconds,
            image_size=(self._shape[-2] * side, self._shape[-1] * side) if len(self._shape) > 3 else (0, 0),
            frames=frames,
        )
        if self._trajectory is not None and self._seen:
            last, notes = self._trajectory.schedule.window.decision, list(self._notes)
            if last is not None and self._trajectory.decision is None and not self._lost:
                steps = self._trajectory.schedule.steps
                notes.append(
                    f"Not watched: the run ended at step {self._calls} of {steps}, before the decision at step {last + 1}."
                )
            return self._trajectory.report(facts, tuple(notes))
        height, width = self._shape[-2:] if len(self._shape) > 3 else (1, 1)
        size = (self._shape[0] * frames, height, width)
        sigmas = tuple(level.sigma for level in self._levels.levels) if self._levels else ()
        return unwatched_report(size, sigmas, self._detection, self._correction, facts, tuple(self._notes))
