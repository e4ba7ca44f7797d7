"""asced_core.batch in front of a real ComfyUI server: what a job gets back, and what it says when that fails."""

from __future__ import annotations

import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from .conftest import COMFYUI
from .test_server import tool

pytestmark = pytest.mark.skipif(not COMFYUI, reason="ASCED_COMFYUI is not set; run the tests with `make test`")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with tool.ComfyServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def batch(pack):
    from asced.asced_core.batch import comfyui, farm, graph, jobs

    class Parts:
        Setup, Gone, find_places, Job = comfyui.ServerSetup, farm.WorkerLostError, graph.find_places, jobs.Job

    return Parts


def _node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def _graph(batch_size=1, steps=12):
    """Demo model, whose only text is the digit; images and reports are saved."""
    return {
        "model": _node("ASCED_DemoModel", digit="each in turn"),
        "empty": _node("EmptyLatentImage", width=256, height=256, batch_size=batch_size),
        "detection": _node(
            "ASCED_Detection", mode="robust", threshold=1.0, min_area=100, max_area=10000, min_width=5, expand=0,
            start_percent=0.2, end_percent=0.5,
        ),
        "sampler": _node(
            "ASCED_KSampler", model=["model", 0], seed=5, steps=steps, cfg=2.0, sampler_name="euler",
            scheduler="normal", positive=["model", 2], negative=["model", 3], latent_image=["empty", 0], denoise=1.0,
            detection=["detection", 0],
        ),
        "decode": _node("VAEDecode", samples=["sampler", 0], vae=["model", 1]),
        "save": _node("ASCED_SaveReport", image=["decode", 0], report=["sampler", 2], filename_prefix="batch"),
    }  # fmt: skip


def _make(batch, server, graph, job, **named):
    return batch.Setup(server.url, batch.find_places(graph, prompt_node="model.digit", **named))()(job)


def _pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_job_gets_its_image_mask_and_report(server, batch):
    job = batch.Job("7", 2**64 - 1)
    (made,) = _make(batch, server, _graph(), job)
    report = json.loads(made.report)
    with Image.open(io.BytesIO(made.picture)) as image:
        assert json.loads(image.text["asced"]) == report
        sent = json.loads(image.text["prompt"])
    assert (sent["model"]["inputs"]["digit"], sent["sampler"]["inputs"]["seed"]) == (job.prompt, job.seed)
    assert report["run"]["seed"] == job.seed
    mask = _pixels(made.mask)
    assert mask.shape == _pixels(made.picture).shape[:2]
    assert (mask > 0).any() == report["images"][0]["flagged"] is True


def test_each_image_of_a_batch_gets_its_own_mask_and_report(server, batch):
    made = _make(batch, server, _graph(batch_size=3), batch.Job("each in turn", 5))
    assert len(made) == 3
    for one in made:
        (image,) = json.loads(one.report)["images"]
        assert image["flagged"] == bool(_pixels(one.mask).any())
    assert len({one.picture for one in made}) == 3


def test_a_graph_without_save_report_still_gives_reports_and_one_without_report_the_image(server, batch):
    graph = _graph()
    graph["save"] = _node("SaveImage", images=["decode", 0], filename_prefix="plain")
    (bare,) = _make(batch, server, graph, batch.Job("7", 5))
    assert bare.mask is None and bare.report is None
    graph["preview"] = _node("ASCED_MaskPreview", report=["sampler", 2])
    (made,) = _make(batch, server, graph, batch.Job("7", 5))
    assert made.mask is not None
    assert json.loads(Image.open(io.BytesIO(made.picture)).text["asced"]) == json.loads(made.report)
    assert np.array_equal(_pixels(made.picture), _pixels(bare.picture))


def test_a_job_that_was_queued_before_gives_its_image_again(server, batch):
    """As after a killed worker; ComfyUI has cached all of it, and then tells no outputs."""
    first, second = (_make(batch, server, _graph(), batch.Job("3", 8))[0] for _ in range(2))
    assert first.mask == second.mask
    assert np.array_equal(_pixels(first.picture), _pixels(second.picture))


def test_a_refused_and_a_failing_job_say_why_and_the_next_one_runs(server, batch):
    with pytest.raises(RuntimeError, match=r"Node model \(ASCED_DemoModel\) failed: .*elbow"):
        _make(batch, server, _graph(), batch.Job("elbow", 5))
    graph = _graph()
    graph["detection"]["inputs"]["mode"] = "best"
    with pytest.raises(RuntimeError, match=r"mode must be one of|The server refused the graph: .*mode: 'best' not in"):
        _make(batch, server, graph, batch.Job("7", 5))
    graph["sampler"]["inputs"]["steps"] = "many"
    with pytest.raises(RuntimeError, match=r"The server refused the graph: .*node sampler \(ASCED_KSampler\): .*steps"):
        _make(batch, server, graph, batch.Job("7", 5))
    assert _make(batch, server, _graph(), batch.Job("7", 6))


def test_nothing_answers_at_the_address(batch, monkeypatch):
    from asced.asced_core.batch import comfyui

    monkeypatch.setattr(comfyui, "PATIENCE", 0.0)
    with pytest.raises(batch.Gone, match=r"No ComfyUI server answers at http://127.0.0.1:1: start it, or correct"):
        batch.Setup("127.0.0.1:1", batch.find_places(_graph(), prompt_node="model.digit"))()


def test_a_server_that_dies_in_mid_run_gives_its_job_back(server, batch, monkeypatch):
    """The last test: it ends the server."""
    from asced.asced_core.batch import comfyui

    monkeypatch.setattr(comfyui, "PATIENCE", 0.5)
    make = batch.Setup(server.url, batch.find_places(_graph(steps=1000), prompt_node="model.digit"))()

    def stop_when_busy():
        while not server.get("/queue")["queue_running"]:
            time.sleep(0.05)
        server.stop()

    stopping = threading.Thread(target=stop_when_busy)
    stopping.start()
    with pytest.raises(batch.Gone, match="No ComfyUI server answers"):
        make(batch.Job("7", 9))
    stopping.join()
