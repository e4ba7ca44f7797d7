"""The model as the sampler sees it while it is watched."""

from __future__ import annotations

from typing import Any

import torch

from ..asced_core.stopwatch import Stopwatch
from .lane import Lane

SAME_SIGMA = 1e-4  # relative; two runs on one grid may differ by rounding


class WatchedModel:
    """The sampler's model with its last input and output kept; everything else is the model's own.

    Once a corrected run goes along, every call serves both: its images come from there, the others from here.
    """

    def __init__(self, model: Any, stopwatch: Stopwatch) -> None:
        self._model, self._stopwatch = model, stopwatch
        self.calls = 0
        self.lane: Lane | None = None
        self._behind = 0

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self._behind:
            self._behind -= 1
            return self.call(x, *args, **kwargs)
        asked = self.lane.asked() if self.lane else None
        if self.lane is None or asked is None:
            return self.call(x, *args, **kwargs)
        theirs, (sigma, *_), _ = asked
        # stays on the device; read once, when all is done
        self.out_of_step |= ((sigma - args[0]).abs() > SAME_SIGMA * sigma).any()
        denoised = self.call(torch.where(self._corrected, theirs, x), *args, **kwargs)
        self.lane.answer(denoised)
        return denoised

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
        self.lane = lane  # at once, so that it is closed whatever happens
        self._behind = calls_behind
        lane.first_step(self.call)
        self._corrected = torch.tensor(corrected, device=self.x.device).view(-1, 1, 1, 1)
        if area is not None:  # what is not inpainted keeps every bit
            self._corrected = self._corrected & (area > 0)
        self.out_of_step = torch.zeros((), dtype=torch.bool, device=self.x.device)

    def merge(self, samples: torch.Tensor) -> torch.Tensor:
        """The final states of both runs."""
        return torch.where(self._corrected, self.lane.result(self.call), samples) if self.lane else samples

    def close(self) -> None:
        """Ends the corrected run, if there is one."""
        if self.lane:
            self.lane.close()
            self.lane = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
