"""The model as the sampler sees it while it is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .second_run import SecondRun
from .stopwatch import Stopwatch

SAME_SIGMA = 1e-4  # relative; two runs on one grid may differ by rounding


@dataclass
class _Corrected:
    run: SecondRun
    places: torch.Tensor  # the part of the state that is this run's, broadcastable to it
    skips: int  # this many of the next calls it takes no part in


class WatchedModel:
    """The sampler's model with its last input and output kept; everything else is the model's own.

    Once a corrected run goes along, every call serves both: the corrected images come from there, the others from here.

    Args:
        model: the sampler's.
        stopwatch: for the time that the model takes.
        keep_first: the first run goes on as if nothing had been corrected, with model calls of its own.

    Attributes:
        x, denoised: of the last call. A sampler's callback may show a steered prediction, or none; these are the
            model's own.
        calls, double_calls: evaluations of the model, and how often each run had one of its own.
        steer: replaces the prediction that the sampler goes on with; takes sigma and prediction.
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
        # stays on the device; read once, when all is done
        self._out_of_step = self._out_of_step | ((sigma - args[0]).abs() > SAME_SIGMA * sigma).any()
        state = torch.where(self._corrected.places, theirs, x)
        if self._keep_first:
            first = self.call(x, *args, **kwargs)
            # by its own options: what a sampler hangs in to see its guidance must not see the other run's
            denoised = self.call(state, *args, **options)
            self.double_calls += 1
        else:
            first = denoised = self.call(state, *args, **kwargs)
        self._corrected.run.answer(denoised)
        return first if self.steer is None else self.steer(args[0], first)

    def _asked(self) -> tuple[torch.Tensor, tuple, dict[str, Any]] | None:
        """What the corrected run asks this call for; None if it takes no part in it."""
        corrected = self._corrected
        if corrected is None:
            return None
        if corrected.skips:
            corrected.skips -= 1
            return None
        return corrected.run.asked()

    def call(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The model alone."""
        with self._stopwatch.span("model"):
            denoised = self._model(x, *args, **kwargs)
        self.calls += 1
        self.x, self.denoised = x, denoised
        return denoised

    def follow(self, run: SecondRun, corrected: list[bool], skips: int = 0, area: torch.Tensor | None = None) -> None:
        """From here on, the corrected images take their states from the second run.

        Args:
            run: the corrected one.
            corrected: for each item of the batch, whether it is corrected.
            skips: this many of the next calls the second run takes no part in.
            area: mask of what may move at all, shaped as the state; None for everything.
        """
        places = torch.tensor(corrected, device=self.x.device).view(-1, *[1] * (self.x.ndim - 1))
        if area is not None:  # what is not inpainted keeps every bit
            places = places & (area > 0)
        self._corrected = _Corrected(run, places, skips)  # at once, so that it is closed in any case
        self._out_of_step = torch.zeros((), dtype=torch.bool, device=self.x.device)
        run.first_step(self.call)

    @property
    def out_of_step(self) -> bool:
        """True if the corrected run asked for other noise levels than the first one."""
        return self._out_of_step is not None and bool(self._out_of_step)

    def shown(self, denoised: torch.Tensor) -> torch.Tensor:
        """The first run's prediction with the corrected images in it."""
        if not self._keep_first or self._corrected is None:
            return denoised
        return torch.where(self._corrected.places, self.denoised, denoised)

    def merge(self, samples: torch.Tensor) -> torch.Tensor:
        """The final states of both runs."""
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
