"""Records a sampler's noise, so that a second run can replay it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from torch import Tensor


class NoiseTape:
    """A sampler's noise source that replays the noise of the first run for a second run.

    Args:
        source: the sampler's noise source, called with two noise levels.
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
        """Noise source of the second run: replays the noise drawn from now on, and draws more if the tape is empty."""
        recorded = self._recorded = deque()
        return lambda sigma, sigma_next: recorded.popleft() if recorded else self._source(sigma, sigma_next)
