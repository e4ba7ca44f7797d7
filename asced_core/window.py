"""What is fixed before a run: its noise levels, the watched steps, and the step of the decision."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .noise import DiscreteSchedule, FlowSchedule, NoiseLevel, edm_level, percent_at
from .settings import DetectionSettings

INSIDE = 0.9  # share of the window's first noise level; a run that starts below it misses part of the window
TINY = 1e-9  # in place of an alpha of 0, at zero terminal SNR
FEW_STEPS = 10  # shorter runs leave too few steps in the window (paper Sec. 7.1 uses 25 or more)


@dataclass(frozen=True)
class Window:
    """The steps between T_d and T_c of one schedule.

    Attributes:
        first, last: first and last watched step, both inclusive; first > last means none.
        decision: the step at T_c, where the correction is applied; None if the run is not watched.
        notes: what the user should know about the window, as sentences.
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
        levels: alpha and sigma of the state at each step, and of the final state.
        window: the watched steps.
    """

    levels: tuple[NoiseLevel, ...]
    window: Window

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Sigma of each level, decreasing."""
        return tuple(level.sigma for level in self.levels)

    @property
    def steps(self) -> int:
        """Number of sampling steps."""
        return max(0, len(self.levels) - 1)

    @classmethod
    def of(
        cls, levels: Sequence[NoiseLevel], settings: DetectionSettings, sigma_at: Callable[[float], float]
    ) -> Schedule:
        """The schedule with the window set by ``start_percent`` and ``end_percent``.

        A run that starts after T_d (img2img, hires fix) gets its own window: it begins at the start of the run and
        covers the same share of the remaining schedule as the window from T_d to T_c covers of the schedule after T_d.

        Args:
            levels: noise level of each step, and of the final state.
            settings: provide the two percentages.
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
            start = first  # exact, without the rounding of the percentage
            notes = (f"This run starts at {begin:.0%} of the noise schedule and is watched up to {end:.0%}.",)
        window = find_window(sigmas, start, sigma_at(end))
        return cls(tuple(levels), replace(window, notes=window.notes + notes))

    @classmethod
    def from_levels(
        cls, levels: Sequence[NoiseLevel], training: DiscreteSchedule | FlowSchedule, settings: DetectionSettings
    ) -> Schedule:
        """The schedule of a run in any scale: VP states, states divided by alpha, or flow.

        Args:
            levels: noise level of each step, and of the final state.
            training: the model's noise schedule, which says where the window lies.
            settings: provide the two percentages.

        Raises:
            ValueError: there are fewer than two levels.
        """
        if len(levels) < 2:
            raise ValueError(f"A schedule needs the levels of its steps and of the final state, got {len(levels)}.")
        flow = isinstance(training, FlowSchedule)
        # the window is found where states compare: by sigma for flow, by sigma / alpha otherwise
        scaled = levels if flow else [edm_level(level.sigma / max(level.alpha, TINY)) for level in levels]
        return replace(cls.of(scaled, settings, training.percent_to_sigma), levels=tuple(levels))


def find_window(sigmas: Sequence[float], sigma_start: float, sigma_end: float) -> Window:
    """Chooses the window by noise level: ``sigma_end < sigma <= sigma_start`` (T_c < t <= T_d).

    Args:
        sigmas: noise levels of the run's steps, decreasing, and of the final state.
        sigma_start: noise level of T_d.
        sigma_end: noise level of T_c.
    """
    steps = list(sigmas[:-1])
    if any(after > before for before, after in itertools.pairwise(sigmas)):
        return Window(0, -1, None, ("Not watched: the noise levels of this run increase, so it does not denoise.",))
    watched = [i for i, s in enumerate(steps) if sigma_end < s <= sigma_start]
    decision = next((i for i, s in enumerate(steps) if 0 < s <= sigma_end), None)
    if len(watched) < 2 or decision is None:
        where = "ends before" if decision is None else "has fewer than two steps in"
        note = (
            f"Not watched: this run of {len(steps)} step{'s' * (len(steps) != 1)} {where} the detection window "
            f"(sigma {sigma_start:.3g} to {sigma_end:.3g}); use more steps, a higher denoise or a wider window."
        )
        return Window(0, -1, None, (note,))
    notes: tuple[str, ...] = ()
    if steps[0] < INSIDE * sigma_start:
        notes = (
            f"This run starts at sigma {steps[0]:.3g}, inside the detection window, which starts at {sigma_start:.3g}: "
            "artifacts that form earlier are missed; use a higher denoise to catch more.",
        )
    if len(steps) < FEW_STEPS:
        notes += (
            f"Few steps: only {len(watched)} of {len(steps)} steps are in the detection window, "
            f"so artifacts are easily missed; use {FEW_STEPS} steps or more.",
        )
    return Window(watched[0], watched[-1], decision, notes)
