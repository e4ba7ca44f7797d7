"""Which step of a run a sampler's report belongs to.

A sampler's own number of a step says little: chained samplers count anew, restarting ones count on, some report before
their second evaluation and some after it. The noise level that the model was called with says where the run is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from .calls import Call
from .watched_model import SAME_SIGMA

OTHERWISE = 0.25  # relative; up to here a sampler may tell the model another noise level than its own


class Steps:
    """Finds the step and the model call of each report of a sampler.

    Args:
        sigmas: noise levels of the run's steps, and of the final state.
        known: True for a function that is known to number its steps by these levels, and to report each of them right
            after the model call at its level; nothing is then read from the device.

    Attributes:
        seen: the steps that were found.
        last: the latest of them; -1 before the first.
        went_back: True if the sampler returned to a step that it had reported before.
        told_otherwise: True if the sampler told the model other noise levels than it reported.
    """

    def __init__(self, sigmas: Sequence[float], known: bool = False) -> None:
        self._sigmas, self._known = tuple(sigmas[:-1]), known
        self._in_order = True  # every report so far was the next step of this run
        self.seen: set[int] = set()
        self.last = -1
        self.went_back = False
        self.told_otherwise = False

    def find(self, report: Mapping[str, Any], calls: Sequence[Call]) -> tuple[int, Call] | None:
        """The step that a report belongs to, and its model call; None if there is none.

        A device sync for each report, unless the function is known.

        Args:
            report: what the sampler passed to its callback.
            calls: the model calls since the last report, oldest first.
        """
        if self._known:
            return self._found(report["i"], calls[-1]) if calls and report["i"] < len(self._sigmas) else None
        expected = self.last + 1
        self._in_order &= report.get("i") == expected
        named = _named(report, calls)
        call = named or next((c for c in reversed(calls) if self._is_at(expected, _told(c))), None)
        if call is None:
            return None
        step = self._step_at(_told(call), expected)
        if step is None and named is not None and self._tells_otherwise(report, expected, named):
            step, self.told_otherwise = expected, True
        return None if step is None else self._found(step, call)

    def _found(self, step: int, call: Call) -> tuple[int, Call]:
        self.went_back |= step <= self.last
        self.last = max(self.last, step)
        self.seen.add(step)
        return step, call

    def has_all(self, steps: Iterable[int]) -> bool:
        """True if these steps were found, and none of them twice."""
        return not self.went_back and self.seen.issuperset(steps)

    def _step_at(self, level: tuple[float, float] | None, expected: int) -> int | None:
        """The step at a noise level; the expected one if several share it."""
        if self._is_at(expected, level):
            return expected
        return next((step for step in range(len(self._sigmas)) if self._is_at(step, level)), None)

    def _is_at(self, step: int, level: tuple[float, float] | None) -> bool:
        if level is None or step >= len(self._sigmas):
            return False
        return abs(level[0] - self._sigmas[step]) <= level[1] * self._sigmas[step]

    def _tells_otherwise(self, report: Mapping[str, Any], step: int, call: Call) -> bool:
        """True if a sampler that keeps to this run's steps only tells the model another noise level, a little off."""
        told, own = _told(call), _level(report.get("sigma_hat", report.get("sigma")))  # sigma_hat: with added noise
        return (
            self._in_order and self._is_at(step, own) and told is not None and self._is_at(step, (told[0], OTHERWISE))
        )


def _told(call: Call) -> tuple[float, float] | None:
    return _level(call.asked.sigma)


def _level(sigma: Any) -> tuple[float, float] | None:
    """A noise level and the relative precision of its dtype."""
    if sigma is None:
        return None
    value = torch.as_tensor(sigma).flatten()
    if not value.numel() or not value.is_floating_point():
        return None
    return float(value[0]), max(SAME_SIGMA, torch.finfo(value.dtype).eps)


def _named(report: Mapping[str, Any], calls: Sequence[Call]) -> Call | None:
    """The call whose prediction or state is in the report."""
    for call in reversed(calls):
        if report.get("denoised") is call.returned:
            return call
    return next((call for call in reversed(calls) if report.get("x") is call.asked.x), None)
