"""The report of a run: summary, JSON, plots."""

import json

import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings, RunFacts, edm_level, unwatched_report
from asced_core.draw.notice import notice
from asced_core.draw.plots import plot_dynamics, region_curves, why_no_dynamics
from asced_core.kdiffusion import Stopwatch
from asced_core.report.run_trace import FRAMES, MAPS, SIDE, Trace

from .runs import SIGMAS, feed, trajectory_of


def _nothing_watched():
    return unwatched_report(
        (2, 64, 64), (1.0, 0.0), DetectionSettings(), CorrectionSettings(), RunFacts(), ("Not watched: too short.",)
    )


def test_the_report_states_what_was_detected(report):
    assert [image.flagged for image in report.images] == [True, False]
    assert [image.corrected for image in report.images] == [True, False]
    assert report.images[0].score > 1 and report.images[1].score == 0
    text = report.summary()
    assert text.startswith("1 region in 1 of 2 images; 1 image corrected at step 13 of 25.")
    assert text.endswith(" A note.")
    assert report.decision_sigma == SIGMAS[report.decision]
    assert report.steps == 25
    assert _nothing_watched().summary() == "Not watched: too short."


def test_json_contains_plain_values_and_no_arrays(report):
    plain = json.loads(report.to_json())
    assert len(json.dumps(plain)) < 5000
    assert plain["summary"] == report.summary() and plain["detection"]["mad_scale"] == 6
    region = plain["images"][0]["regions"][0]
    assert set(region) == {"box", "area", "score", "confidence"}


def test_labels_number_the_regions(report):
    (region,) = report.images[0].regions
    assert (report.labels[0] == 1).sum() == region.area and not report.labels[1].any()
    assert report.labels.dtype == np.uint16 and np.array_equal(report.masks, report.labels > 0)


def test_single_steps_are_measured_on_the_trace(report):
    thresholds, shares = report.single_steps(0)
    for place, changes in enumerate(report.trace[0].astype(np.float64)):
        middle = np.median(changes)
        threshold = middle + 6 * 1.4826 * np.median(np.abs(changes - middle))
        assert thresholds[place] == pytest.approx(threshold, rel=1e-3, abs=1e-6)
        assert shares[place] == pytest.approx((changes > threshold).mean(), abs=2e-3)


def test_masks_are_available_at_any_size(report):
    assert report.image_masks().shape == (2, 512, 512)  # eight pixels per cell
    odd = report.mask_at(101, 67)
    assert odd.shape == (2, 101, 67) and odd.dtype == np.float32 and set(np.unique(odd)) == {0.0, 1.0}
    assert odd.mean() == pytest.approx(report.masks.mean(), rel=0.15)


def test_the_region_curve_jumps_and_flattens(report):
    region, rest = region_curves(report, 0)
    jump = int(np.argmax(region))
    assert report.window[0] < report.trace_steps[jump] <= report.window[1]
    assert region[jump] > 5 * rest[jump]
    assert region[jump + 1] < 0.3 * region[jump]
    assert np.isnan(region_curves(report, 1)[0]).all()


def test_phases_have_the_papers_names(report):
    steps = (0, report.window[0], report.window[1], report.decision)
    assert [report.phase(s) for s in steps] == ["Profiling", "Mutation", "Mutation", "Refinement"]


def test_plots_are_rgb_images_that_differ_between_images(report):
    first, second = plot_dynamics(report, 0), plot_dynamics(report, 1)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    assert first.shape == second.shape and not np.array_equal(first, second)


def test_plots_reject_missing_images(report):
    with pytest.raises(ValueError, match="no image 3"):
        plot_dynamics(report, 2)


@pytest.mark.parametrize("width", [64, 300, 1210])
def test_a_notice_fits_into_its_picture(width):
    picture = notice(why_no_dynamics(_nothing_watched()) + " " + "word " * 20, 400, width)
    assert picture.shape == (400, width, 3)
    rows, columns = (picture[..., 0] < 200).nonzero()
    assert len(rows) and rows.min() > 0 and rows.max() < 399 and columns.min() > 0 and columns.max() < width - 1


def test_plots_work_without_a_color_preview(planted):
    """Four-channel latents without a linear RGB map only get the film strip of changes."""
    trajectory = trajectory_of()
    feed(trajectory, planted(channels=4))
    report = trajectory.report(RunFacts())
    assert report.frame_steps == () and plot_dynamics(report).ndim == 3


def test_a_run_that_was_not_watched_has_a_report_with_the_reason(rng):
    trajectory = trajectory_of(levels=[edm_level(s) for s in (3.0, 1.0, 0.3, 0.0)])
    for step in range(3):
        trajectory.observe(step, *torch.randn(2, 1, 4, 16, 16, generator=rng))
    report = trajectory.report(RunFacts("euler"), ("A note of the caller.",))
    assert report.decision is None and [image.looked_at for image in report.images] == [False]
    assert report.notes[0].startswith("Not watched: this run of 3 steps")
    assert report.notes[-1] == "A note of the caller." and report.sigmas == (3.0, 1.0, 0.3, 0.0)


def test_a_run_that_has_shown_nothing_has_no_report():
    with pytest.raises(ValueError, match="has shown no step"):
        trajectory_of().report(RunFacts())


@pytest.mark.parametrize("steps", [1, 2, 25, 1000])
def test_the_trace_is_bounded(steps, rng):
    trace = Trace(steps)
    for step in range(steps):
        trace.push(step, torch.randn(2, 3, 200, 100, generator=rng))
    maps, frames = trace.maps(), trace.frames()
    assert maps.shape[1] == len(trace.map_steps) <= MAPS if steps > 1 else not trace.map_steps
    assert frames.shape == (2, len(trace.frame_steps), 3, SIDE, SIDE // 2) and len(trace.frame_steps) <= FRAMES


def test_the_trace_shows_latents_with_the_given_matrix(rng):
    matrix = torch.randn(3, 5, generator=rng)
    trace = Trace(3, matrix)
    latent = torch.randn(1, 4, 8, 8, generator=rng)
    trace.push(0, latent)
    shown = trace.frames()[0, 0].float()
    expected = torch.einsum("dc,chw->dhw", matrix[:, :4], latent[0]) + matrix[:, 4:, None]
    torch.testing.assert_close(shown, expected, atol=1e-2, rtol=1e-2)


def test_a_repeated_step_is_recorded_once(planted):
    trace = Trace(3)
    for step, value in ((0, 0.0), (1, 1.0), (1, 5.0), (2, 5.5)):
        trace.push(step, torch.full((1, 3, 8, 8), value))
    assert trace.map_steps == [1, 2]
    assert trace.maps()[0, :, 0, 0].tolist() == [1.0, 0.5]


def test_the_time_of_the_model_is_not_counted_as_ours_when_we_call_it(monkeypatch):
    ticks = iter(range(0, 100, 10))
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    watch = Stopwatch(torch.device("cpu"))
    with watch.span("asced"):
        for _ in range(2):
            with watch.span("model"):
                pass
    assert (watch.seconds("asced"), watch.seconds("model")) == (30, 20)


def test_the_stopwatch_counts_blocks_that_raise():
    watch = Stopwatch(torch.device("cpu"))
    with watch.span("model"):
        sum(range(1000))
    before = watch.seconds("model")
    with pytest.raises(RuntimeError), watch.span("model"):
        raise RuntimeError
    assert watch.seconds("model") > before > 0
    assert watch.seconds("other") == 0
