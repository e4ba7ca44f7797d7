"""The wrapper around the model while a run is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .second_run import SecondRun
from .stopwatch import Stopwatch

SAME_SIGMA = 1e-4  # relative tolerance; two runs on one schedule may differ by rounding


@dataclass
class _Corrected:
    run: SecondRun
    places: torch.Tensor  # bool: the part of the state that belongs to this run, broadcastable to it
    skips: int  # number of upcoming calls that this run does not share


class WatchedModel:
    """Wraps the sampler's model and keeps its last input and output; other attributes are passed through.

    Once there is a corrected run, each call serves both runs: the corrected images take their state from that run, the
    others from the first run.

    Args:
        model: the sampler's model.
        stopwatch: measures the time spent in the model.
        keep_first: continue the first run as if nothing had been corrected, with separate model calls.

    Attributes:
        x, denoised: input and output of the last call. A sampler's callback may get a steered prediction, or none;
            these are the model's own.
        calls, double_calls: number of model evaluations, and of calls in which each run needed its own.
        steer: maps sigma and prediction to the prediction that the sampler gets; None changes nothing.
    """

    def __init__(self, model: Any, stopwatch: Stopwatch, keep_first: bool = False) -> None:
        self._model, self._stopwatch, self._keep_first = model, stopwatch, keep_first
        self.calls, self.double_calls = 0, 0
        self.steer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
        self._corrected: _Corrected | None = None
        self._out_of_step: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        asked = self._asked()
        if asked is None or self._corrected is None:
            first = self.call(x, *args, **kwargs)
            return first if self.steer is None else self.steer(args[0], first)
        theirs, (sigma, *_), options = asked
        # stays on the device and is read once, at the end
        self._out_of_step = self._out_of_step | ((sigma - args[0]).abs() > SAME_SIGMA * sigma).any()
        state = torch.where(self._corrected.places, theirs, x)
        if self._keep_first:
            first = self.call(x, *args, **kwargs)
            # with its own options: a sampler's hook that reads its guidance must not see the other run's
            denoised = self.call(state, *args, **options)
            self.double_calls += 1
        else:
            first = denoised = self.call(state, *args, **kwargs)
        self._corrected.run.answer(denoised)
        return first if self.steer is None else self.steer(args[0], first)

    def _asked(self) -> tuple[torch.Tensor, tuple, dict[str, Any]] | None:
        """The corrected run's share of this call; None if it has none."""
        corrected = self._corrected
        if corrected is None:
            return None
        if corrected.skips:
            corrected.skips -= 1
            return None
        return corrected.run.asked()

    def call(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Calls the model once, and keeps input and output."""
        with self._stopwatch.span("model"):
            denoised = self._model(x, *args, **kwargs)
        self.calls += 1
        self.x, self.denoised = x, denoised
        return denoised

    def follow(self, run: SecondRun, corrected: list[bool], skips: int = 0, area: torch.Tensor | None = None) -> None:
        """From here on, the corrected images take their states from the second run.

        Args:
            run: the corrected run.
            corrected: for each item of the batch, whether it is corrected.
            skips: number of upcoming calls that the second run does not share.
            area: the inpainted area (> 0), same shape as the state; None is the whole image.
        """
        places = torch.tensor(corrected, device=self.x.device).view(-1, *[1] * (self.x.ndim - 1))
        if area is not None:  # outside the inpainted area nothing changes
            places = places & (area > 0)
        self._corrected = _Corrected(run, places, skips)  # set first, so that close() always reaches the run
        self._out_of_step = torch.zeros((), dtype=torch.bool, device=self.x.device)
        run.first_step(self.call)

    @property
    def out_of_step(self) -> bool:
        """True if the corrected run used other noise levels than the first run; one device sync."""
        return self._out_of_step is not None and bool(self._out_of_step)

    def shown(self, denoised: torch.Tensor) -> torch.Tensor:
        """The prediction for the preview: the first run's, with the corrected images inserted."""
        if not self._keep_first or self._corrected is None:
            return denoised
        return torch.where(self._corrected.places, self.denoised, denoised)

    def merge(self, samples: torch.Tensor) -> torch.Tensor:
        """The final state, combined from both runs."""
        if self._corrected is None:
            return samples
        return torch.where(self._corrected.places, self._corrected.run.result(self.call), samples)

    def close(self) -> None:
        """Ends the corrected run, if there is one."""
        if self._corrected is not None:
            self._corrected.run.close()
            self._corrected = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
