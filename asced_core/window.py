"""Which steps of a run are watched, and at which it is decided."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

INSIDE = 0.9  # of the window's first noise level; a run that starts below lacks a part of it
FEW_STEPS = 10  # shorter runs leave too few frames in the window (paper Sec. 7.1 uses 25 and more)


@dataclass(frozen=True)
class Window:
    """The steps between T_d and T_c of one schedule.

    Attributes:
        first, last: first and last step that is watched, both inclusive; first > last means none.
        decisions: the step at T_c, where the correction happens, and those of further rounds; none where the
            run ends before.
        notes: what the user ought to know about it, in sentences.
    """

    first: int
    last: int
    decisions: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def decision(self) -> int | None:
        """The step at T_c, or None."""
        return self.decisions[0] if self.decisions else None


def find_window(
    sigmas: Sequence[float],
    sigma_start: float,
    sigma_end: float,
    sigma_last: float | None = None,
    rounds: int = 1,
) -> Window:
    """Chooses the window by noise level: the bank covers ``sigma_end < sigma <= sigma_start`` (T_c < t <= T_d).

    Args:
        sigmas: falling noise levels of the run's steps, with the last one that it ends on.
        sigma_start: noise level of T_d.
        sigma_end: noise level of T_c.
        sigma_last: noise level of T_c's upper limit, where the last of several rounds is decided.
        rounds: decisions at most; two steps at least lie between them.
    """
    steps = list(sigmas[:-1])
    if any(after > before for before, after in itertools.pairwise(sigmas)):
        return Window(0, -1, (), ("Not watched: the noise levels of this run rise, so it does not denoise.",))
    watched = [i for i, s in enumerate(steps) if sigma_end < s <= sigma_start]
    after = [i for i, s in enumerate(steps) if 0 < s <= sigma_end]
    decision = after[0] if after else None
    if len(watched) < 2 or decision is None:
        where = "ends before" if decision is None else "has fewer than two steps in"
        note = (
            f"Not watched: this run of {len(steps)} step{'s' * (len(steps) != 1)} {where} the detection window "
            f"(sigma {sigma_start:.3g} to {sigma_end:.3g}); take more steps, a higher denoise or a wider window."
        )
        return Window(0, -1, (), (note,))
    notes: tuple[str, ...] = ()
    if steps[0] < INSIDE * sigma_start:
        notes = (
            f"This run starts at sigma {steps[0]:.3g}, inside the detection window that starts at {sigma_start:.3g}: "
            "what is born before is missed; a higher denoise shows more.",
        )
    if len(steps) < FEW_STEPS:
        notes += (
            f"Few steps: with {len(steps)} steps only {len(watched)} lie in the detection window, "
            f"so artifacts are easily missed; {FEW_STEPS} or more are advised.",
        )
    decisions = _decisions(steps, decision, sigma_last, rounds)
    if len(decisions) < rounds:
        fit = f"Only {len(decisions)} of {rounds} rounds fit in between T_c and last_percent"
        notes += (f"{fit}: raise it, or take more steps.",)
    return Window(watched[0], watched[-1], decisions, notes)


def _decisions(steps: Sequence[float], first: int, sigma_last: float | None, rounds: int) -> tuple[int, ...]:
    """Spreads the rounds over the steps from T_c to its upper limit; each needs two predictions of its own."""
    limit = max((i for i, s in enumerate(steps) if sigma_last is not None and s >= sigma_last), default=first)
    decisions = [first]
    for step in np.linspace(first, max(first, limit), rounds).round().astype(int).tolist()[1:]:
        if step - decisions[-1] >= 2:
            decisions.append(step)
    return tuple(decisions)
