"""`make bench-gpu`: its whole path on the CPU with a tiny U-Net, and its quick form where there is a GPU."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys

import pytest
import torch

from .conftest import ROOT

pytestmark = pytest.mark.usefixtures("pack")  # a ComfyUI is there


def _bench(*options, **environment):
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


def _rows(folder):
    ((machine, rows),) = json.loads((folder / "speed-gpu.json").read_text("utf-8")).items()
    return machine, rows


def test_one_try_on_a_new_machine_gives_figures_and_the_next_goes_on(tmp_path):
    tiny = ("--device", "cpu", "--models", "tiny", "--rounds", 1, "--out", tmp_path)
    done = _bench(*tiny, "--forms", "fp32", "--parts", "runs", "waits")
    assert done.returncode == 0, done.stdout + done.stderr
    machine, rows = _rows(tmp_path)
    runs, waits = rows["tiny | fp32 | runs"], rows["tiny | fp32 | waits"]
    assert machine.startswith("CPU") and "torch" in machine and "ComfyUI" in machine
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in runs["seconds"].values())
    assert runs["same"] and runs["added"] == 1
    assert len(waits["stock"]) == len(waits["watched"]) == runs["steps"]
    before = slice(0, waits["decision"])
    assert waits["watched"][before] == waits["stock"][before]
    assert f"## {machine}" in (tmp_path / "speed-gpu.md").read_text("utf-8")
    assert "2 of 2 rows are measured already" in _bench(*tiny, "--forms", "fp32", "--parts", "runs", "waits").stdout
    assert _rows(tmp_path)[1] == rows


def test_a_row_that_fails_is_named_with_its_reason(tmp_path):
    """Here the compiler is missing; stored figures are kept, and the exit code says that there are no others."""
    kept = {"CPU": {"tiny | fp32 | waits": {"error": "of another machine"}}}
    (tmp_path / "speed-gpu.json").write_text(json.dumps(kept))
    options = ("--device", "cpu", "--models", "tiny", "--rounds", 1, "--out", tmp_path)
    done = _bench(
        *options,
        "--forms",
        "inductor",
        "--parts",
        "waits",
        CXX="no-such-compiler",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    stored = json.loads((tmp_path / "speed-gpu.json").read_text("utf-8"))
    error = next(rows for machine, rows in stored.items() if machine != "CPU")["tiny | inductor | waits"]["error"]
    assert "no-such-compiler" in error or "compiler" in error.lower()
    assert stored["CPU"] == kept["CPU"]
    assert error in (tmp_path / "speed-gpu.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "cpu"), "add --models tiny"),
        (("--rounds", "0"), "--rounds must be 1 or more"),
        (("--models", "sd15", "--forms", "fp32"), "leave --forms and --parts out"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(options, words):
    done = _bench(*options)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1


def test_without_a_gpu_it_says_what_it_needs():
    done = _bench("--quick", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and "needs a CUDA device" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_quick_form_on_a_gpu(tmp_path):
    done = _bench("--quick", "--models", "sd15", "--forms", "fp16", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = _rows(tmp_path)[1]
    assert rows and not [row["error"] for row in rows.values() if "error" in row]
    waits = rows["sd15 | fp16 | waits"]
    assert waits["watched"][: waits["decision"]] == waits["stock"][: waits["decision"]]


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.001, 1.002, 1.003, 1.001, 1.002, 1.004], "met"),
        ([1.010, 1.012, 1.013, 1.011, 1.012, 1.014], "missed"),
        ([1.001, 1.012, 1.003, 1.011, 1.002, 1.004], "open"),
        ([1.010, 1.012, 1.013], "open"),  # too few rounds
        ([1.002] * 15 + [1.5], "met"),  # one round was disturbed
    ],
)
def test_a_goal_is_met_only_if_the_whole_interval_says_so(ratios, verdict):
    tables = runpy.run_path(str(ROOT / "benchmarks" / "gpu_report.py"))
    assert tables["_ratio"](ratios, [1.0] * len(ratios), 0, 1.005).endswith(f", {verdict}")
