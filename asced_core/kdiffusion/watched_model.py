"""The model as the sampler sees it while it is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .second_run import Lane
from .stopwatch import Stopwatch

SAME_SIGMA = 1e-4  # relative; two runs on one grid may differ by rounding


@dataclass
class _Follower:
    lane: Lane
    places: torch.Tensor  # what of the state is the lane's, broadcastable to it
    behind: int  # of the next calls, it has no part in so many


class WatchedModel:
    """The sampler's model with its last input and output kept; everything else is the model's own.

    Once corrected runs go along, every call serves all: their images come from there, the others from here. An
    image that was corrected twice belongs to the later run.

    Args:
        model: the sampler's.
        stopwatch: for the time that the model takes.
        keep_first: the first run goes on as if nothing had been corrected, with model calls of its own; the corrected
            runs share a call beside each.
    """

    def __init__(self, model: Any, stopwatch: Stopwatch, keep_first: bool = False) -> None:
        self._model, self._stopwatch, self._keep_first = model, stopwatch, keep_first
        self.calls = 0
        self.double_calls = 0  # how often both were called
        self.steer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None  # sigma, prediction
        self._followers: list[_Follower] = []
        self._out_of_step: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        asking, state, options = [], x, kwargs
        for follower in self._followers:
            if follower.behind:
                follower.behind -= 1
            elif asked := follower.lane.asked():
                theirs, (sigma, *_), options = asked
                # stays on the device; read once, when all is done
                self._out_of_step = self._out_of_step | ((sigma - args[0]).abs() > SAME_SIGMA * sigma).any()
                state = torch.where(follower.places, theirs, state)
                asking.append(follower.lane)
        if self._keep_first and asking:
            first = self.call(x, *args, **kwargs)
            # by their own options: what a sampler hangs in to see its guidance must not see the other run's
            corrected = self.call(state, *args, **options)
            self.double_calls += 1
        else:
            first = corrected = self.call(state, *args, **kwargs)
        for lane in asking:
            lane.answer(corrected)
        return first if self.steer is None else self.steer(args[0], first)

    def call(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The model alone."""
        with self._stopwatch.span("model"):
            denoised = self._model(x, *args, **kwargs)
        self.calls += 1
        self.x, self.denoised = x, denoised
        return denoised

    def follow(
        self, lane: Lane, corrected: list[bool], calls_behind: int = 0, area: torch.Tensor | None = None
    ) -> None:
        """From here on, the images that are marked take their states from the lane.

        Args:
            lane: the corrected run.
            corrected: its images.
            calls_behind: how many of the next calls it has no part in.
            area: the host's mask of what may move at all, shaped as the state; None for everything.
        """
        places = torch.tensor(corrected, device=self.x.device).view(-1, *[1] * (self.x.ndim - 1))
        if area is not None:  # what is not inpainted keeps every bit
            places = places & (area > 0)
        self._followers.append(_Follower(lane, places, calls_behind))  # at once, so that it is closed in any case
        if self._out_of_step is None:
            self._out_of_step = torch.zeros((), dtype=torch.bool, device=self.x.device)
        lane.first_step(self.call)

    @property
    def out_of_step(self) -> bool:
        """True if a corrected run asked about other noise levels than the first one."""
        return self._out_of_step is not None and bool(self._out_of_step)

    def shown(self, denoised: torch.Tensor) -> torch.Tensor:
        """The first run's prediction with the corrected images in it."""
        if not self._keep_first:
            return denoised
        for follower in self._followers:
            denoised = torch.where(follower.places, self.denoised, denoised)
        return denoised

    def merge(self, samples: torch.Tensor) -> torch.Tensor:
        """The final states of all runs."""
        for follower in self._followers:
            samples = torch.where(follower.places, follower.lane.result(self.call), samples)
        return samples

    def close(self) -> None:
        """Ends the corrected runs, if there are any."""
        while self._followers:
            self._followers.pop().lane.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
