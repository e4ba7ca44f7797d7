"""python -m asced_core.batch with a pipeline of diffusers over real Ray workers, and the farm below it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.batch import farm
from asced_core.batch.pipeline import PipelineSetup

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"num_inference_steps": 20, "height": 128, "width": 128, "guidance_scale": 1.0}
LIST = "# hands\na hand\nA stump, in mid-run\nbroken\nkilled once\n"


def _start(folder, *more, workers=1):
    """The command, in the folder of batch_pipeline.py."""
    words = [
        sys.executable, "-m", "asced_core.batch", str(folder / "list.txt"), "--seeds", "0,1", "--out",
        str(folder / "out"), "--pipeline", "batch_pipeline:pipeline", "--workers", str(workers), "--options",
        json.dumps(OPTIONS), *more,
    ]  # fmt: skip
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        words, cwd=Path(__file__).parent, env={**os.environ, "PYTHONPATH": path, "BATCH_MARKS": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def _pixels(file):
    with Image.open(file) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A batch that is interrupted at its first image and started again: the folder, and what both said."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "list.txt").write_text(LIST)
    first = _start(folder)
    while first.poll() is None and not list(folder.glob("out/*-a-hand.png")):
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    interrupted = (*first.communicate(timeout=120), first.returncode)
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("out/*.png")}
    second = _start(folder, workers=2)
    return folder, interrupted, kept, (*second.communicate(timeout=300), second.returncode)


def test_an_interrupted_batch_says_how_to_go_on_and_keeps_what_it_has(runs):
    folder, (_, said, code), kept, _ = runs
    assert code == 130
    assert said.endswith("asced batch: Interrupted. Run the same command again to make what is missing.\n")
    assert "Traceback" not in said
    assert kept and all(file.stat().st_mtime_ns == before for file, before in kept.items())
    assert not list((folder / "out").glob("*.part"))


def test_a_killed_worker_loses_nothing_and_a_failing_prompt_stops_nothing(runs):
    folder, _, _, (printed, said, code) = runs
    assert (folder / "killed once").exists()
    assert code == 1
    assert printed.splitlines()[-1].startswith("6 images, 2 marked, 2 corrected, 2 failed; see ")
    assert "failed: 0-broken, 1-broken: This prompt breaks the pipeline.\n" in said
    pictures = {file.stem for file in (folder / "out").glob("*.png") if not file.stem.endswith(".mask")}
    names = ("a-hand", "a-stump-in-mid-run-a64333", "killed-once")
    assert pictures == {f"{seed}-{name}" for seed in (0, 1) for name in names}
    assert "encode_prompt" in (folder / "out" / "failed.log").read_text()


def test_each_image_has_its_mask_and_its_report(runs):
    folder = runs[0] / "out"
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    for row in rows:
        assert ("error" in row) == (row["prompt"] == "broken")
        for image in row["images"]:
            report = json.loads((folder / f"{row['name']}.json").read_text())
            with Image.open(folder / image["file"]) as picture:
                assert json.loads(picture.text["asced"]) == report
            mask = _pixels(folder / f"{row['name']}.mask.png")
            assert mask.shape == (128, 128)
            assert report["run"]["seed"] == row["seed"]
            assert image["marked"] == mask.any() == ("stump" in row["prompt"])


def test_an_image_of_the_batch_is_the_one_of_a_call_by_hand(runs, monkeypatch):
    """Nothing is marked in it, so it does not even know that it was watched."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from batch_pipeline import pipeline

    pipe = pipeline()
    pipe.set_progress_bar_config(disable=True)
    torch.set_num_threads(1)
    by_hand = pipe(prompt="a hand", generator=torch.Generator().manual_seed(1), **OPTIONS).images[0]
    assert np.array_equal(_pixels(runs[0] / "out" / "1-a-hand.png"), np.asarray(by_hand))


def test_other_settings_are_not_mixed_into_a_folder(runs):
    process = _start(runs[0], "--correct", "none")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "holds images made with another correction: choose another --out, or delete batch.json there" in said


@pytest.fixture(scope="module")
def cluster():
    with farm.ray_cluster(None, ROOT, {}, cores=2):
        yield


def test_a_worker_that_is_gone_leaves_its_work_to_the_others(cluster, tmp_path):
    def leaving():
        def task(number):
            (tmp_path / "left").touch()
            raise farm.WorkerLostError("This server is gone.")

        return task

    def staying():
        while not (tmp_path / "left").exists():
            time.sleep(0.05)
        return lambda number: number

    said = []
    found = dict(farm.spread({n: (n,) for n in range(4)}, [leaving, staying], on_lost=said.append))
    assert found == {n: farm.Done(n) for n in range(4)}
    assert said == ["This server is gone."]
    with pytest.raises(farm.WorkerLostError, match="This server is gone"):
        dict(farm.spread({n: (n,) for n in range(3)}, [leaving]))


def test_work_that_always_kills_its_worker_is_given_up_and_the_rest_is_done(cluster, monkeypatch):
    monkeypatch.setattr(farm, "RETRIES", 1)

    def setup():
        return lambda number: os._exit(1) if number == 0 else number

    found = dict(farm.spread({n: (n,) for n in range(4)}, [setup]))
    assert found.pop(0) == farm.Failed("Given up after 2 workers: its process was killed.")
    assert found == {n: farm.Done(n) for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no_such_module:pipeline", "There is no module no_such_module here: install it, or start in its folder"),
        ("json:pipeline", "The module json has no pipeline"),
        ("builtins:dict", "watching needs a pipeline of diffusers with a scheduler, got dict"),
    ],
)
def test_what_is_no_pipeline_is_refused_with_one_sentence(source, reason):
    with pytest.raises(ValueError, match=reason):
        PipelineSetup(source, DetectionSettings(), CorrectionSettings())()
