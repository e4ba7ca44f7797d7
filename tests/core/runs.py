"""Runs for tests: a 25-step schedule, trajectories on it, and helpers that feed predictions."""

from __future__ import annotations

import numpy as np
import torch

from asced_core import CorrectionSettings, Corrector, DetectionSettings, Schedule, Trajectory, Watcher, edm_level
from asced_core.window import find_window

SIGMAS = (*np.geomspace(80, 0.05, 25).tolist(), 0.0)
T_D, T_C = 20.0, 2.0  # noise levels


def trajectory_of(
    detection=None, correction=None, *, sigmas=SIGMAS, levels=None, ends=(T_D, T_C), seed=0, items=None, codec=None,
    space=None, find=None, forbidden=None, trace=None, learned=None, keep_predictions=False,
):  # fmt: skip
    """A trajectory with a window given by noise levels."""
    levels = tuple(levels or (edm_level(s) for s in sigmas))
    schedule = Schedule(levels, find_window([level.sigma for level in levels], *ends))
    return Trajectory(
        schedule,
        Watcher(detection or DetectionSettings(mad_scale=6), space, find, learned),
        Corrector(correction or CorrectionSettings(), seed, items, codec),
        forbidden,
        trace,
        keep_predictions=keep_predictions,
    )


def frame_at(frames, trajectory, step):
    """The frame of a step: the frames fill the window; the first one comes before it, the last one after it."""
    return frames[min(max(0, step - trajectory.schedule.window.first), len(frames) - 1)]


def feed(trajectory, frames, to=25):
    """Feeds the frames and corrects at T_c; returns the states before and after, or None if nothing was corrected."""
    pair = None
    for step in range(to):
        frame = frame_at(frames, trajectory, step)
        generator = torch.Generator().manual_seed(step)
        x = frame + trajectory.schedule.sigmas[step] * torch.randn(frame.shape, generator=generator)
        trajectory.observe(step, x, frame)
        if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
            pair = x, trajectory.correct(decision, x, frame)
            trajectory.observe(step, x, frame)  # the sampler repeats the step
    return pair
