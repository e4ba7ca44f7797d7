"""What could not be measured, was not looked at, or was left alone is never called clean."""

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings, RunFacts, Space, detect
from asced_core.draw.heat import cividis
from asced_core.draw.overlay import draw_overlay
from asced_core.draw.plots import plot_dynamics
from asced_core.draw.timeline import change_strip, last_frame, timeline
from asced_core.progress import status_text
from asced_core.report.outcome import remarks
from asced_core.report.selection import best, part_of, passing, verdicts

from .runs import feed, trajectory_of

NAN, INF = float("nan"), float("inf")
MODES = ("robust", "reference", "paper")


@pytest.fixture(autouse=True)
def _no_warnings():
    """A NaN that is cast or compared makes numpy warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def _broken(frames, value, images, start=0, cells=np.s_[:]):
    """The predictions with a value in some images from one frame on."""
    frames = [frame.clone() for frame in frames]
    for frame in frames[start:]:
        for image in images:
            frame[image, :, cells] = value
    return frames


def _report(frames, **options):
    trajectory = trajectory_of(**options)
    pair = feed(trajectory, frames)
    return trajectory.report(RunFacts()), trajectory, pair


def _strict(text):
    def refuse(name):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("cells", [np.s_[:], np.s_[3:4]], ids=["all of it", "one row"])
def test_an_image_that_turns_nan_in_the_window_is_not_measurable(planted, mode, value, cells):
    detection = DetectionSettings(mode=mode, mad_scale=6, base_size=256)
    sound, _, _ = _report(planted(batch=3), detection=detection)
    report, trajectory, pair = _report(_broken(planted(batch=3), value, (1,), 5, cells), detection=detection)
    assert [image.measurable for image in report.images] == [True, False, True]
    lost, found = report.images[1], trajectory.decision.detections[1]
    assert (lost.score, lost.regions, lost.corrected, lost.state) == (0.0, (), False, "not_measurable")
    assert not found.measurable and not found.clean and np.isfinite(found.ratio).all()
    assert np.isfinite(found.thresholds).all()
    assert (report.images[0], report.images[2]) == (sound.images[0], sound.images[2])
    assert "Image 2 could not be measured: its values are NaN or infinite." in report.summary()
    assert _strict(report.to_json())["images"][1]["measurable"] is False
    if pair is not None:
        assert torch.equal(torch.nan_to_num(pair[0][1]), torch.nan_to_num(pair[1][1]))


def test_one_bad_step_in_the_window_is_enough(planted):
    frames = planted(batch=2)
    frames[3] = _broken(frames, NAN, (0,))[3]
    assert [image.measurable for image in _report(frames)[0].images] == [False, True]


def test_an_image_that_turns_nan_after_t_c_is_not_measurable(planted):
    trajectory, frames = trajectory_of(), planted(batch=2)
    feed(trajectory, frames, to=20)
    assert trajectory.decision.corrected == [True, False]
    for step in range(20, 25):
        state = _broken(frames, NAN, (0,))[-1]
        trajectory.observe(step, state, state)
    report = trajectory.report(RunFacts())
    assert [image.state for image in report.images] == ["not_measurable", "clean"]
    assert report.images[0].corrected and report.images[0].regions  # what was done stays in the report
    assert passing(report, 1.0) == [1] and best(report, 2) == [1, 0]
    assert "1 image corrected" in report.summary() and "Image 1 could not be measured" in report.summary()


def test_nan_that_only_the_decoder_makes_counts(planted):
    """A tiny decoder or a VAE in half precision may overflow where the latent does not."""
    space = Space("taesd", lambda latent: torch.where(torch.arange(2).view(2, 1, 1, 1) == 1, NAN, latent))
    report, _, _ = _report(planted(batch=2), space=space, detection=DetectionSettings(space="auto"))
    assert [image.measurable for image in report.images] == [True, False]


@pytest.mark.parametrize(("smooth", "expected"), [(0.0, [True, False, True]), (1.0, [False] * 3)])
def test_smoothing_over_frames_spreads_what_is_not_finite(planted, smooth, expected):
    videos = [frame.movedim(0, 1)[None] for frame in _broken(planted(batch=3), NAN, (1,), 5)]
    trajectory = trajectory_of(DetectionSettings(smooth_frames=smooth))
    feed(trajectory, videos, to=14)
    report = trajectory.report(RunFacts(frames=3))
    assert [image.measurable for image in report.images] == expected
    assert [verdict.measurable for verdict in verdicts(report)] == [False]
    assert passing(report, 1.0) == [] and "values are NaN or infinite" in report.summary()


def test_a_run_of_nothing_but_nan_is_not_clean(planted):
    one, trajectory, _ = _report(_broken(planted(), NAN, (0,)))
    assert one.summary() == "The image could not be measured: its values are NaN or infinite."
    assert status_text(trajectory, 24) == "No region marked"
    four = _report(_broken(planted(batch=4), NAN, range(4)))[0]
    assert four.summary() == "None of the 4 images could be measured: their values are NaN or infinite."
    assert passing(four, 1.0) == [] and best(four, 1) == [0]


def test_nothing_in_the_data_of_a_page_is_nan(planted):
    for start in (0, 5, 7):
        report = _report(_broken(planted(batch=2), INF, (1,), start))[0]
        _strict(json.dumps([timeline(report, image) for image in range(2)], allow_nan=False))
        assert None in timeline(report, 1)["mean"]
        assert None not in timeline(report, 0)["mean"]
        for picture in (change_strip(report, 1), last_frame(report, 1), plot_dynamics(report, 1)):
            assert picture.dtype == np.uint8
        assert not last_frame(report, 1).any()  # black
        assert not np.array_equal(plot_dynamics(report, 0), plot_dynamics(report, 1))


def test_noise_levels_that_json_does_not_know_are_null(report):
    endless = replace(report, sigmas=(INF, NAN, *report.sigmas[2:]), decision=0)
    assert _strict(endless.to_json())["sigmas"][:2] == [None, None]
    assert _strict(endless.to_json())["decision_sigma"] is None


def test_heat_maps_take_any_number():
    level = np.array([[NAN, INF], [0.0, 1.0]], np.float32)
    assert np.array_equal(cividis(level)[0, 0], cividis(level)[1, 0])
    drawn = draw_overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), bool), style="heat", ratio=level)
    assert drawn.dtype == np.uint8


def test_predictions_with_a_gradient_are_watched(planted):
    """Outside of inference mode, a sampler without no_grad."""
    frames = [frame.requires_grad_() for frame in planted(batch=2)]
    assert _report(frames)[0].images[0].flagged
    assert detect(torch.cat([frame[:1] for frame in frames]), DetectionSettings(mad_scale=6)).regions


# ------------------------------------------------------------------------------- nothing marked, and not clean


def test_a_threshold_that_everything_exceeds_is_not_clean(planted):
    report, trajectory, _ = _report(planted(batch=2), detection=DetectionSettings(mad_scale=0.0))
    assert [(image.state, image.too_large) for image in report.images] == [("too_large", 1)] * 2
    assert report.summary().startswith("No region marked in 2 images. 2 regions in images 1 and 2 left alone: larger ")
    assert status_text(trajectory, 24) == "No region marked"


def test_mode_paper_is_not_clean(rng):
    """It marks nearly everything."""
    states = [torch.randn(1, 3, 64, 64, generator=rng) for _ in range(25)]
    trajectory = trajectory_of(DetectionSettings(mode="paper"))
    for step in range(25):
        trajectory.observe(step, 0.1 * states[step] + states[step - 1], states[step])
        if trajectory.is_due(step):
            trajectory.decide()
    text = trajectory.report(RunFacts()).summary()
    assert text == "No region marked in 1 image. 1 region left alone: larger than max_area."


def test_a_region_that_is_too_large_is_named_next_to_others(planted):
    frames = planted(batch=2)
    for frame in frames[4:]:
        frame[1, :, 20:26, 20:26] += 0.8
    report = _report(frames, detection=DetectionSettings(mad_scale=6, max_area=1000))[0]
    assert [image.state for image in report.images] == ["too_large", "marked"]
    assert report.summary().startswith("1 region in 1 of 2 images;")
    assert "1 region in image 1 left alone: larger than max_area." in report.summary()


def test_specks_do_not_count(planted):
    report = _report(planted(), detection=DetectionSettings(mad_scale=6, min_area=9000))[0]
    assert report.summary() == "Clean: no artifacts found in 1 image."


def _forbidding(*whole):
    masks = np.zeros((len(whole), 64, 64), bool)
    masks[[n for n, on in enumerate(whole) if on]] = True
    masks[:, :, :20] = True
    return masks


def test_where_nobody_looked_is_not_clean(planted):
    report, trajectory, _ = _report(planted(batch=2), forbidden=_forbidding(True, False))
    assert [image.state for image in report.images] == ["not_looked_at", "clean"]
    text = "Image 1 was not looked at: the masks only_here and protect leave nothing of it."
    assert report.summary() == f"No region marked in 1 image. {text}"
    assert status_text(trajectory, 24) == "No region marked"
    nothing = _report(planted(batch=2), forbidden=_forbidding(True))[0]
    assert nothing.summary() == "Nothing was looked at: the masks only_here and protect leave nothing."
    partly = _report(planted(batch=2)[:4], forbidden=_forbidding(False))[0]
    assert partly.summary() == "Clean: no artifacts found in 2 images."


def test_what_nobody_looked_at_passes_but_is_not_preferred(planted):
    report = _report(
        planted(batch=3), correction=CorrectionSettings("none"), forbidden=_forbidding(False, True, False)
    )[0]
    assert [image.state for image in report.images] == ["marked", "not_looked_at", "clean"]
    assert passing(report, 0.0) == [1, 2] and best(report, 3)[-1] == 1
    assert part_of(report, [1]).summary() == "Nothing was looked at: the masks only_here and protect leave nothing."


def test_many_images_are_counted_and_not_listed():
    images = [SimpleNamespace(measurable=i % 2 > 0, looked_at=True, too_large=0) for i in range(32)]
    assert remarks(images) == ["16 images could not be measured: their values are NaN or infinite."]
    assert remarks(images[:5], "frame") == [
        "Frames 1, 3 and 5 could not be measured: their values are NaN or infinite."
    ]
    assert remarks(images[1:2]) == []
