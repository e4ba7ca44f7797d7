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
    line, steps = timeline(report, 1), np.array(report.trace_steps)
    assert {name: len(values) for name, values in line.items()} == dict.fromkeys(("mean", "threshold", "share"), 24)
    first, last = report.window
    watched = (steps > first) & (steps <= last)
    thresholds, shares = report.single_steps(1)
    for name, expected in (("threshold", thresholds), ("share", shares)):
        assert [value is not None for value in line[name]] == watched.tolist()
        assert np.array(line[name])[watched].tolist() == pytest.approx(expected[watched], rel=1e-3)
    assert steps[np.argmax(line["mean"])] == 9
    assert {type(value) for values in line.values() for value in values} == {float, type(None)}


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
