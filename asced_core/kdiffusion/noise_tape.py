"""A sampler's noise, recorded so that a second run draws the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from torch import Tensor


class NoiseTape:
    """A sampler's noise source that gives a second run the same noise as the first.

    Args:
        source: called with two noise levels, as samplers do.
    """

    def __init__(self, source: Callable[[Any, Any], Tensor]) -> None:
        self._source = source
        self._recorded: deque[Tensor] | None = None

    def __call__(self, sigma: Any, sigma_next: Any) -> Tensor:
        noise = self._source(sigma, sigma_next)
        if self._recorded is not None:
            self._recorded.append(noise)
        return noise

    def second(self) -> Callable[[Any, Any], Tensor]:
        """The noise from here on for the second run; new noise where the first has drawn less."""
        recorded = self._recorded = deque()
        return lambda sigma, sigma_next: recorded.popleft() if recorded else self._source(sigma, sigma_next)
