"""The benchmarks' parts: the sampling loop, the metrics, the worker farm."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings
from benchmarks.hands import HandSampler, correct, record, to_uint8

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recorded():
    torch.manual_seed(0)
    sampler = HandSampler("early", steps=12)
    return sampler, record(sampler, [0, 1, 2, 5])


@pytest.mark.parametrize("method", ["ttc", "redo", "replace", "clip", "sargd"])
def test_a_method_that_finds_nothing_returns_the_recorded_images(recorded, method):
    sampler, run = recorded
    nothing = DetectionSettings(min_area=60000, max_area=65000)
    out = correct(sampler, run, nothing, CorrectionSettings(method=method))
    np.testing.assert_array_equal(out.images, to_uint8(run.images))
    assert out.calls == 0 and not out.corrected.any()


def test_only_the_marked_image_leaves_the_recording(recorded):
    """The detector marks one image; the others stay bit-for-bit identical to the recording and cost no call."""
    sampler, run = recorded
    marked = np.zeros((4, 64, 64), bool)
    marked[1, 20:40, 20:40] = True
    out = correct(sampler, run, DetectionSettings(), CorrectionSettings(), lambda _: marked)
    assert out.corrected.tolist() == [False, True, False, False]
    others = [0, 2, 3]
    np.testing.assert_array_equal(out.images[others], to_uint8(run.images)[others])
    assert (out.images[1] != to_uint8(run.images)[1]).any()
    step = next(i for i, s in enumerate(sampler.sigmas) if s <= sampler.schedule.percent_to_sigma(0.5))
    assert out.calls == 12 - step


def test_redo_costs_the_window_once_more_for_the_marked_image_alone(recorded):
    sampler, run = recorded
    marked = np.zeros((4, 64, 64), bool)
    marked[1, 20:40, 20:40] = True
    outs = [
        correct(sampler, run, DetectionSettings(), CorrectionSettings(method=method), lambda _: marked)
        for method in ("ttc", "redo")
    ]
    assert outs[1].calls - outs[0].calls == len(sampler.watched(DetectionSettings()))
    assert outs[1].corrected.tolist() == [False, True, False, False]
    assert (outs[0].images[1] != outs[1].images[1]).any()
    others = [0, 2, 3]
    np.testing.assert_array_equal(outs[1].images[others], to_uint8(run.images)[others])


def test_precision_and_recall_equal_those_of_a_library():
    metric_prc = pytest.importorskip("torch_fidelity.metric_prc", reason="the benchmarks' packages are not installed")
    from benchmarks.quality import precision_flags, recall_flags

    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(300, 16)), rng.normal(0.4, 0.8, size=(250, 16))
    theirs = metric_prc.prc_features_to_metric(
        torch.from_numpy(made), torch.from_numpy(real), prc_neighborhood=3, prc_batch_size=128, save_cpu_ram=False,
        verbose=False,
    )  # fmt: skip
    assert precision_flags(real, made).mean() == pytest.approx(float(theirs["precision"]), abs=1e-6)
    assert recall_flags(real, made).mean() == pytest.approx(float(theirs["recall"]), abs=1e-6)


def test_frechet_distance_of_two_gaussians():
    pytest.importorskip("torch_fidelity", reason="the benchmarks' packages are not installed")
    from benchmarks.quality import FrechetTo, compare, frechet

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20000, 4)), rng.normal(size=(20000, 4)) * 2 + [3, 0, 0, 0]
    assert frechet(a, b) == pytest.approx(9 + 4 * (1 - 2) ** 2, rel=0.02)
    assert FrechetTo(a)(b) == pytest.approx(frechet(a, b), rel=1e-6)
    table = compare(a[:500], {"original": b[:500], "same": b[:500]}, "original")
    assert table["same"]["fid_ratio"].value == table["same"]["fid_ratio"].low == 1


def test_strays_are_pieces_apart_from_the_hand():
    from benchmarks.judges import stray_components

    image = np.full((64, 64, 3), 235, np.uint8)
    image[20:60, 20:44] = (200, 140, 110)
    assert stray_components(image) == []
    image[8:14, 50:56] = (200, 140, 110)
    (box,) = stray_components(image)
    assert abs(np.array(box) - (50, 8, 56, 14)).max() <= 1


def test_killed_workers_lose_nothing_and_a_second_run_resumes(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the benchmarks' packages are not installed")
    from benchmarks.farm import CHUNK, collect

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # some other cluster, which must not be joined

    def faint(test_set: str, seeds: list[int], names: list[str]) -> dict[str, bytes]:
        """Dies on its first try, like a killed worker. Nested, so Ray pickles its code."""
        mark = Path(test_set) / f"{seeds[0]}.tried"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return {name: name.encode() + b"".join(int(s).to_bytes(2, "big") for s in seeds) for name in names}

    out = tmp_path / "out"
    files = collect(str(tmp_path), 2 * CHUNK, out, ["one", "the other"], task=faint)
    assert [len(file.read_bytes()) for file in files["one"]] == [3 + 2 * CHUNK] * 2
    assert files["the other"][0] == out / "the-other" / "000000.npz"
    assert len(list(tmp_path.glob("*.tried"))) == 2
    files["one"][0].write_bytes(b"kept")
    files["one"][1].unlink()
    again = collect(str(tmp_path), 2 * CHUNK, out, ["one", "a third"], task=faint)
    assert again["one"][0].read_bytes() == b"kept"
    assert again["one"][1].is_file() and again["a third"][0].read_bytes().startswith(b"a third")
    assert not list(out.glob("**/*.part"))
    with pytest.raises(ValueError, match="multiple of 32, got 33"):
        collect(str(tmp_path), 33, out, ["one"], task=faint)
