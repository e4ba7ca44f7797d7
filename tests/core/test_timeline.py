"""The data behind the panel: steps, change strips, thumbnails."""

import numpy as np
import pytest
import torch

from asced_core import DetectionSettings, RunFacts
from asced_core.draw.timeline import THUMBNAIL, change_strip, last_frame, thumbnail, timeline

from .runs import trajectory_of

SIDE = 32


@pytest.fixture(scope="module")
def report():
    trajectory = trajectory_of(DetectionSettings(base_size=SIDE))
    generator = torch.Generator().manual_seed(0)
    for step in range(25):
        denoised = (0.01 * torch.randn(2, 3, SIDE, SIDE, generator=generator)).clamp(-1, 1)
        denoised[1, :, 8:24, 8:24] = 1.0 if step >= 9 else -1.0
        trajectory.observe(step, denoised, denoised)
        if trajectory.is_due(step):
            trajectory.decide()
    return trajectory.report(RunFacts())


def test_every_traced_step_has_an_entry(report):
    line = timeline(report, 1)
    assert [entry["step"] for entry in line] == list(report.trace_steps)
    watched = [entry for entry in line if entry["threshold"] is not None]
    first, last = report.window
    assert [entry["step"] for entry in watched] == list(range(first + 1, last + 1))
    thresholds, shares = report.single_steps(1)
    places = [report.trace_steps.index(entry["step"]) for entry in watched]
    assert [entry["share"] for entry in watched] == shares[places].tolist()
    assert [entry["threshold"] for entry in watched] == thresholds[places].tolist()
    assert max(line, key=lambda entry: entry["mean"])["step"] == 9
    assert {entry["phase"] for entry in line} == {"Profiling", "Mutation", "Refinement"}
    assert all(type(value) in (int, float, str, type(None)) for entry in line for value in entry.values())


def test_the_strip_is_brightest_at_the_change(report):
    strip = change_strip(report, 1)
    assert strip.shape == (SIDE, SIDE * len(report.trace_steps), 3) and strip.dtype == np.uint8
    place = report.trace_steps.index(9)
    gray = strip.astype(int).sum(-1).reshape(SIDE, len(report.trace_steps), SIDE)
    assert gray[:, place].reshape(SIDE, SIDE)[8:24, 8:24].min() > 600
    assert gray[:, np.arange(len(report.trace_steps)) != place].max() < 300


def test_a_run_without_any_change_has_a_dark_strip(report):
    from dataclasses import replace

    still = replace(report, trace=np.zeros_like(report.trace))
    assert change_strip(still, 0).max() <= 4  # magma's darkest


def test_thumbnails(report):
    frame = last_frame(report, 1)
    assert frame.shape == (SIDE, SIDE, 3) and (frame[8:24, 8:24] == 255).all() and abs(int(frame[0, 0, 0]) - 127) < 8
    assert thumbnail(frame) is frame
    big = np.zeros((1024, 2048, 3), np.uint8)
    big[:, 1024:] = 200
    small = thumbnail(big)
    assert small.shape == (THUMBNAIL // 2, THUMBNAIL, 3) and small[:, :250].max() == 0 and small[:, 260:].min() == 200
