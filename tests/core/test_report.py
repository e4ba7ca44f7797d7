"""The report of a run: words, JSON both ways, pictures."""

import json

import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings, Report, Trajectory, edm_level
from asced_core.draw.plots import (
    phase,
    plot_abnormal,
    plot_acceleration,
    plot_dynamics,
    plot_phases,
    region_curves,
)
from asced_core.kdiffusion.stopwatch import Stopwatch
from asced_core.report.report import RunFacts, build_report, empty_report
from asced_core.report.trace import FRAMES, MAPS, SIDE, Trace

from .conftest import SIGMAS


def _nothing_watched():
    return empty_report(
        (2, 64, 64), (1.0, 0.0), DetectionSettings(), CorrectionSettings(), RunFacts(), ("Not watched: too short.",)
    )


def test_report_says_what_was_found(report):
    assert [image.flagged for image in report.images] == [True, False]
    assert [image.corrected for image in report.images] == [True, False]
    assert report.images[0].score > 1 and report.images[1].score == 0
    text = report.summary()
    assert text.startswith("1 region in 1 of 2 images; 1 image corrected at step 13 of 25.")
    assert text.endswith(" A note.")
    assert report.decision_sigma == SIGMAS[report.decision]
    assert report.steps == 25
    assert _nothing_watched().summary() == "Not watched: too short."


@pytest.mark.parametrize("make", ["watched", "unwatched"])
def test_json_reads_back_to_the_same_report(report, make):
    original = report if make == "watched" else _nothing_watched()
    text = original.to_json()
    again = Report.from_json(text)
    assert again.to_json() == text
    assert again.images == original.images and again.run == original.run
    for name in ("masks", "ratios", "trace", "frames", "thresholds", "abnormal"):
        ours, theirs = getattr(original, name), getattr(again, name)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def test_json_for_people_holds_no_arrays(report):
    plain = json.loads(report.to_json(arrays=False))
    assert "arrays" not in plain and len(json.dumps(plain)) < 5000
    region = plain["images"][0]["regions"][0]
    assert set(region) == {"box", "area", "score"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1}'])
def test_json_of_something_else_is_refused(text):
    with pytest.raises(ValueError, match="report"):
        Report.from_json(text)


def test_masks_come_at_any_size(report):
    assert report.image_masks().shape == (2, 512, 512)  # eight pixels a cell
    odd = report.mask_at(101, 67)
    assert odd.shape == (2, 101, 67) and odd.dtype == np.float32 and set(np.unique(odd)) == {0.0, 1.0}
    assert odd.mean() == pytest.approx(report.masks.mean(), rel=0.15)


def test_curves_of_the_region_jump_and_stall(report):
    region, rest = region_curves(report, 0)
    jump = int(np.argmax(region))
    assert report.window[0] < report.trace_steps[jump] <= report.window[1]
    assert region[jump] > 5 * rest[jump]
    assert region[jump + 1] < 0.3 * region[jump]
    assert np.isnan(region_curves(report, 1)[0]).all()


def test_phases_carry_the_papers_names(report):
    assert [phase(report, s) for s in (0, report.window[0], report.window[1], report.decision)] == [
        "Profiling",
        "Mutation",
        "Mutation",
        "Refinement",
    ]


@pytest.mark.parametrize("plot", [plot_dynamics, plot_phases, plot_acceleration, plot_abnormal])
def test_plots_are_pictures_that_differ_between_images(report, plot):
    first, second = plot(report, 0), plot(report, 1)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    assert first.shape == second.shape and not np.array_equal(first, second)
    assert first.std() > 5


@pytest.mark.parametrize("plot", [plot_dynamics, plot_phases, plot_acceleration, plot_abnormal])
def test_plots_refuse_what_is_not_there(report, plot):
    with pytest.raises(ValueError, match="no image 2"):
        plot(report, 2)
    with pytest.raises(ValueError, match="Not watched"):
        plot(_nothing_watched(), 0)


def test_plots_do_without_colours(planted):
    """Latents of four channels with no way to colours have a film of changes alone."""
    frames = planted(channels=4)
    trajectory = Trajectory(
        DetectionSettings(mad_scale=6), CorrectionSettings(), SIGMAS, 20.0, 2.0, [edm_level(s) for s in SIGMAS]
    )
    for step in range(trajectory.window.decision + 1):
        frame = frames[min(max(0, step - trajectory.window.first), 7)]
        trajectory.observe(step, frame, frame)
    trajectory.decide()
    report = build_report(trajectory, RunFacts())
    assert report.frame_steps == () and plot_dynamics(report).ndim == 3


@pytest.mark.parametrize("steps", [1, 2, 25, 1000])
def test_trace_is_bounded(steps, rng):
    trace = Trace(steps)
    for step in range(steps):
        trace.push(step, torch.randn(2, 3, 200, 100, generator=rng))
    maps, frames = trace.maps(), trace.frames()
    assert maps.shape[1] == len(trace.map_steps) <= MAPS if steps > 1 else not trace.map_steps
    assert frames.shape == (2, len(trace.frame_steps), 3, SIDE, SIDE // 2) and len(trace.frame_steps) <= FRAMES


def test_trace_shows_latents_by_the_matrix_it_is_given(rng):
    matrix = torch.randn(3, 5, generator=rng)
    trace = Trace(3, matrix)
    latent = torch.randn(1, 4, 8, 8, generator=rng)
    trace.push(0, latent)
    shown = trace.frames()[0, 0].float()
    expected = torch.einsum("dc,chw->dhw", matrix[:, :4], latent[0]) + matrix[:, 4:, None]
    torch.testing.assert_close(shown, expected, atol=1e-2, rtol=1e-2)


def test_a_repeated_step_is_not_drawn_twice(planted):
    trace = Trace(3)
    for step, value in ((0, 0.0), (1, 1.0), (1, 5.0), (2, 5.5)):
        trace.push(step, torch.full((1, 3, 8, 8), value))
    assert trace.map_steps == [1, 2]
    assert trace.maps()[0, :, 0, 0].tolist() == [1.0, 0.5]


def test_stopwatch_adds_up_also_over_errors():
    watch = Stopwatch(torch.device("cpu"))
    with watch.span("model"):
        sum(range(1000))
    before = watch.seconds("model")
    with pytest.raises(RuntimeError), watch.span("model"):
        raise RuntimeError
    assert watch.seconds("model") > before > 0
    assert watch.seconds("other") == 0
