"""Runs for tests: a schedule of 25 steps, trajectories on it, and predictions to feed them."""

from __future__ import annotations

import numpy as np
import torch

from asced_core import CorrectionSettings, Corrector, DetectionSettings, Schedule, Trajectory, Watcher, edm_level
from asced_core.window import find_window

SIGMAS = (*np.geomspace(80, 0.05, 25).tolist(), 0.0)
T_D, T_C = 20.0, 2.0  # noise levels


def trajectory_of(
    detection=None, correction=None, *, sigmas=SIGMAS, levels=None, ends=(T_D, T_C), seed=0, items=None, codec=None,
    space=None, find=None, forbidden=None, trace=None,
):  # fmt: skip
    """A trajectory whose window is given by noise levels."""
    levels = tuple(levels or (edm_level(s) for s in sigmas))
    schedule = Schedule(levels, find_window([level.sigma for level in levels], *ends))
    return Trajectory(
        schedule,
        Watcher(detection or DetectionSettings(mad_scale=6), space, find),
        Corrector(correction or CorrectionSettings(), seed, items, codec),
        forbidden,
        trace,
    )


def frame_at(frames, trajectory, step):
    """The frames lie in the window; before it stands the first one, after it the last."""
    return frames[min(max(0, step - trajectory.schedule.window.first), len(frames) - 1)]


def feed(trajectory, frames, to=25):
    """Shows a run's frames and corrects at T_c; the states before and after it, or None where nothing was corrected."""
    pair = None
    for step in range(to):
        frame = frame_at(frames, trajectory, step)
        generator = torch.Generator().manual_seed(step)
        x = frame + trajectory.schedule.sigmas[step] * torch.randn(frame.shape, generator=generator)
        trajectory.observe(step, x, frame)
        if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
            pair = x, trajectory.correct(decision, x, frame)
            trajectory.observe(step, x, frame)  # the step is taken again
    return pair
