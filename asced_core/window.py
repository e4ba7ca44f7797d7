"""What is known before a run: its noise levels, the steps that are watched, and the step of the decision."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .noise import NoiseLevel, percent_at
from .settings import DetectionSettings

INSIDE = 0.9  # of the window's first noise level; a run that starts below lacks a part of it
FEW_STEPS = 10  # shorter runs leave too few frames in the window (paper Sec. 7.1 uses 25 and more)


@dataclass(frozen=True)
class Window:
    """The steps between T_d and T_c of one schedule.

    Attributes:
        first, last: first and last step that is watched, both inclusive; first > last means none.
        decision: the step at T_c, where the correction happens; None where the run ends before it.
        notes: what the user ought to know about it, in sentences.
    """

    first: int
    last: int
    decision: int | None
    notes: tuple[str, ...]

    def __contains__(self, step: int) -> bool:
        return self.first <= step <= self.last


@dataclass(frozen=True)
class Schedule:
    """The noise levels of one run, and its window.

    Attributes:
        levels: alpha and sigma of the state at each step, and of the state that the run ends on.
        window: of these levels.
    """

    levels: tuple[NoiseLevel, ...]
    window: Window

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Sigma of each level, falling."""
        return tuple(level.sigma for level in self.levels)

    @property
    def steps(self) -> int:
        """Number of sampling steps."""
        return max(0, len(self.levels) - 1)

    @classmethod
    def of(
        cls, levels: Sequence[NoiseLevel], settings: DetectionSettings, sigma_at: Callable[[float], float]
    ) -> Schedule:
        """The window that the settings ask for, by their ``start_percent`` and ``end_percent``.

        A run that starts after T_d (img2img, hires fix) gets a window of its own: it starts where the run does, and
        covers the same share of what is left as the window from T_d to T_c covers of everything after T_d.

        Args:
            levels: of each step, and the one that the run ends on.
            settings: for the two percentages.
            sigma_at: sigma at a share of the model's noise schedule (0 = pure noise, 1 = clean), in the unit of the
                levels' sigma.
        """
        sigmas = [level.sigma for level in levels]
        begin, end = settings.start_percent, settings.end_percent
        first, start = (sigmas[0] if sigmas else 0.0), sigma_at(settings.start_percent)
        notes: tuple[str, ...] = ()
        if 0 < first < INSIDE * start:
            begin = percent_at(sigma_at, first)
            end = 1 - (1 - end) * (1 - begin) / (1 - settings.start_percent)
            start = first  # exactly, not as rounded by way of percents
            notes = (f"This run starts at {begin:.0%} of the noise schedule and is watched up to {end:.0%}.",)
        window = find_window(sigmas, start, sigma_at(end))
        return cls(tuple(levels), replace(window, notes=window.notes + notes))


def find_window(sigmas: Sequence[float], sigma_start: float, sigma_end: float) -> Window:
    """Chooses the window by noise level: it covers ``sigma_end < sigma <= sigma_start`` (T_c < t <= T_d).

    Args:
        sigmas: falling noise levels of the run's steps, and the one that it ends on.
        sigma_start: noise level of T_d.
        sigma_end: noise level of T_c.
    """
    steps = list(sigmas[:-1])
    if any(after > before for before, after in itertools.pairwise(sigmas)):
        return Window(0, -1, None, ("Not watched: the noise levels of this run rise, so it does not denoise.",))
    watched = [i for i, s in enumerate(steps) if sigma_end < s <= sigma_start]
    decision = next((i for i, s in enumerate(steps) if 0 < s <= sigma_end), None)
    if len(watched) < 2 or decision is None:
        where = "ends before" if decision is None else "has fewer than two steps in"
        note = (
            f"Not watched: this run of {len(steps)} step{'s' * (len(steps) != 1)} {where} the detection window "
            f"(sigma {sigma_start:.3g} to {sigma_end:.3g}); take more steps, a higher denoise or a wider window."
        )
        return Window(0, -1, None, (note,))
    notes: tuple[str, ...] = ()
    if steps[0] < INSIDE * sigma_start:
        notes = (
            f"This run starts at sigma {steps[0]:.3g}, inside the detection window that starts at {sigma_start:.3g}: "
            "what forms before that is missed; a higher denoise shows more.",
        )
    if len(steps) < FEW_STEPS:
        notes += (
            f"Few steps: with {len(steps)} steps only {len(watched)} lie in the detection window, "
            f"so artifacts are easily missed; {FEW_STEPS} or more are advised.",
        )
    return Window(watched[0], watched[-1], decision, notes)
