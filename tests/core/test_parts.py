"""Large batches are computed a few images at a time: same results, less memory."""

import pytest
import torch

from asced_core import DetectionSettings, maps
from asced_core.detect.detection import make_detector
from asced_core.detect.learned import FaultNet, Learned
from asced_core.detect.run_score import sharpness
from asced_core.maps import in_parts
from asced_core.report.run_trace import Trace

SHAPE = (5, 3, 24, 20)
TWO_IMAGES = 2 * 3 * 24 * 20


@pytest.fixture
def predictions(rng):
    later = torch.randn(2, *SHAPE, generator=rng) / 10
    later[1, :, :, 6:12, 6:12] += 2
    return later


def _whole_and_in_parts(monkeypatch, work):
    whole = work()
    monkeypatch.setattr(maps, "PART", TWO_IMAGES)
    return whole, work()


@pytest.mark.parametrize(("part", "seen"), [(1, 1), (TWO_IMAGES, 2), (TWO_IMAGES - 1, 1), (10**6, 5)])
def test_as_many_images_as_fit_at_a_time(part, seen, monkeypatch, predictions):
    monkeypatch.setattr(maps, "PART", part)
    sizes = []

    def work(which):
        sizes.append(len(predictions[0, which]))
        return predictions[0, which]

    assert torch.equal(in_parts(work, SHAPE), predictions[0])
    assert max(sizes) == seen and sum(sizes) == len(predictions[0])


@pytest.mark.parametrize("mode", ["strict", "robust"])
@pytest.mark.parametrize(("frames", "smooth"), [(1, 0.0), (5, 1.0)])
def test_lasting_change(mode, frames, smooth, monkeypatch, predictions):
    settings = DetectionSettings(mode=mode, base_size=64, smooth_frames=smooth)

    def work():
        detector = make_detector(settings, SHAPE, torch.device("cpu"), frames)
        for one in predictions:
            detector.push(one)
        return detector.result().ratio

    whole, parts = _whole_and_in_parts(monkeypatch, work)
    assert (whole > 0).any()
    torch.testing.assert_close(parts, whole)


def test_a_taught_network(monkeypatch, predictions):
    def work():
        learned = Learned(network)
        detector = make_detector(DetectionSettings(mode="learned"), SHAPE, torch.device("cpu"), learned=learned)
        for one in predictions:
            detector.push(one)
        return detector.probability()

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FaultNet(3, stride=2).eval()
    whole, parts = _whole_and_in_parts(monkeypatch, work)
    torch.testing.assert_close(parts, whole)


def test_the_trace_and_the_run_score(monkeypatch, predictions):
    def work():
        trace = Trace(2)
        for step, one in enumerate(predictions):
            trace.push(step, one)
        return torch.cat([trace.maps().flatten(1), sharpness(predictions[1])[:, None]], 1)

    whole, parts = _whole_and_in_parts(monkeypatch, work)
    assert torch.equal(parts, whole)
