"""A real ComfyUI server as a child process: graphs through its API, invalid inputs, and the demo command."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load

from .conftest import COMFYUI, ROOT

SENTENCE = 300  # the most characters that one clear error may have


def _module():
    spec = importlib.util.spec_from_file_location("asced_server", ROOT / "tools" / "server.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = _module() if COMFYUI else None
pytestmark = pytest.mark.skipif(not COMFYUI, reason="ASCED_COMFYUI is not set; run the tests with `make test`")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with tool.ComfyServer(tmp_path_factory.mktemp("server")) as running:
        yield running


def _graph(seed=5, steps=12, denoise=1.0, sampler="euler", batch=2, **settings):
    """Demo model through ASCED_KSampler with both settings nodes; 32-pixel images."""
    detection = {
        "mode": "robust", "threshold": 2.25, "min_area": 100, "max_area": 10000, "min_width": 5, "expand": 0,
        "start_percent": 0.2, "end_percent": 0.5, **settings,
    }  # fmt: skip
    correction = {"method": "ttc", "gamma": 0.0, "strength": 1.0, "expand": 5, "x0_source": "current"}

    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    return {
        "model": node("ASCED_DemoModel", digit="each in turn"),
        "empty": node("EmptyLatentImage", width=256, height=256, batch_size=batch),
        "detection": node("ASCED_Detection", **detection),
        "correction": node("ASCED_Correction", **correction),
        "sampler": node(
            "ASCED_KSampler", model=["model", 0], seed=seed, steps=steps, cfg=2.0, sampler_name=sampler,
            scheduler="normal", positive=["model", 2], negative=["model", 3], latent_image=["empty", 0],
            denoise=denoise, detection=["detection", 0], correction=["correction", 0],
        ),
        "preview": node("ASCED_MaskPreview", report=["sampler", 2]),
        "latent": node("SaveLatent", samples=["sampler", 0], filename_prefix="out"),
    }  # fmt: skip


def _report(outputs):
    return json.loads(outputs["preview"]["asced_report"][0])


def _latent(server, outputs):
    return load(server.view(outputs["latent"]["latents"][0]))["latent_tensor"]


def test_the_server_has_every_node_and_a_graph_runs(server):
    known = server.get("/object_info")
    assert sum(name.startswith("ASCED_") for name in known) == 24
    seen = []
    outputs = server.run(_graph(), lambda *event: seen.append(event))
    steps = [value for node, value, total in seen if node == "sampler" and total == 12]
    assert steps == sorted(set(steps)) and (steps[0], steps[-1]) == (1, 12)  # newer versions skip some, by the clock
    assert len(outputs["preview"]["images"]) == 2
    assert len(_report(outputs)["images"]) == 2
    assert outputs["sampler"]["asced_text"] == [_report(outputs)["summary"]]  # which the page keeps on the node


def test_a_detector_is_taught_and_then_used_by_its_name(server):
    """The list of files is checked before a graph runs, so it has to know a file as soon as it is written."""
    graph = _graph(batch=6)
    shared = {name: graph["sampler"]["inputs"][name] for name in ("model", "positive", "negative", "latent_image")}
    graph["teach"] = {
        "class_type": "ASCED_Teach",
        "inputs": {
            **shared, "seed": 5, "steps": 12, "cfg": 2.0, "scheduler": "normal", "name": "served", "runs": 12,
            "training_steps": 50, "start_over": False,
        },
    }  # fmt: skip
    graph["text"] = {"class_type": "PreviewAny", "inputs": {"source": ["teach", 0]}}
    seen = []
    outputs = server.run({name: graph[name] for name in ("model", "empty", "teach", "text")}, lambda *e: seen.append(e))
    name = outputs["text"]["text"][0]
    assert name == "served.taught.safetensors"
    assert [event[1:] for event in seen if event[0] == "teach"][-1] == (62, 62)
    report = _report(server.run(_graph(batch=6, taught=name, marked_percent=50.0)))
    assert report["detection"]["mode"] == "learned" and report["decision"] is not None
    with pytest.raises(tool.PromptError, match=r"taught: 'other' not in|There is no file other"):
        server.run(_graph(taught="other"))


def test_help_pages_are_served(server):
    import urllib.request

    with urllib.request.urlopen(f"{server.url}/extensions/asced/docs/ASCED_KSampler.md") as answer:
        assert b"ASCED" in answer.read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_percent": 0.6, "end_percent": 0.4}, "must be smaller than end_percent"),
        ({"min_area": 500, "max_area": 400}, "must be smaller than max_area"),
        ({"threshold": -1.0}, "smaller than min"),
        ({"mode": "best"}, "mode must be one of|mode: 'best' not in"),  # newer versions check it before our node does
    ],
)
def test_invalid_settings_get_one_clear_error_and_the_queue_goes_on(server, change, message):
    with pytest.raises(tool.PromptError, match=message) as error:
        server.run(_graph(**change))
    assert len(str(error.value)) < SENTENCE
    assert _latent(server, server.run(_graph(seed=6))).shape == (2, 3, 32, 32)


def test_missing_conditioning_is_named_and_the_queue_goes_on(server):
    graph = _graph()
    del graph["sampler"]["inputs"]["positive"]
    with pytest.raises(tool.PromptError, match=r"[Rr]equired input is missing.*positive"):
        server.run(graph)
    assert server.run(_graph(seed=7))["latent"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 1}, "1 step "),
        ({"sampler": "dpm_adaptive"}, "dpm_adaptive"),
        ({"denoise": 0.0}, "no step"),
    ],
)
def test_runs_that_cannot_be_watched_return_the_image_and_the_reason(server, change, message):
    outputs = server.run(_graph(**change))
    summary = _report(outputs)["summary"]
    assert summary.startswith("Not watched") and message in summary
    assert np.isfinite(_latent(server, outputs)).all()


def test_a_second_queue_equals_a_fresh_process(server, tmp_path):
    """Earlier runs, with another seed or failed, leave no trace in a warm server."""
    server.run(_graph(seed=21))
    with pytest.raises(tool.PromptError):
        server.run(_graph(seed=22, threshold=-3.0))
    warm_outputs = server.run(_graph(seed=23))
    with tool.ComfyServer(tmp_path) as fresh:
        cold_outputs = fresh.run(_graph(seed=23))
        assert np.array_equal(_latent(server, warm_outputs), _latent(fresh, cold_outputs))
    assert any(image["corrected"] for image in _report(warm_outputs)["images"])


def test_comfyuis_offload_and_cache_settings_change_nothing(server, tmp_path):
    """``--lowvram`` and the like exclude ``--cpu``; these options free models and outputs at once, as they do."""
    expected = server.run(_graph(seed=31))
    options = ("--cpu", "--cache-none", "--disable-smart-memory")
    with tool.ComfyServer(tmp_path, options=options) as other:
        for seed in (31, 32):
            other.run(_graph(seed=seed))
        with pytest.raises(tool.PromptError):
            other.run(_graph(seed=33, start_percent=0.9))
        outputs = other.run(_graph(seed=31))
        assert np.array_equal(_latent(other, outputs), _latent(server, expected))
    assert _report(outputs)["images"] == _report(expected)["images"]


def test_the_demo_command_writes_what_it_promises(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), "--out", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bit-identical" in done.stdout
    promised = {"before.png", "after.png", "changed.png", "mask.png", "overlay.png", "dynamics.png", "report.json"}
    for folder, more, space in (
        (tmp_path / "demo", {"latent"}, "latent"),
        (tmp_path / "demo" / "latent", set(), "latent"),
    ):
        assert {path.name for path in folder.iterdir()} == promised | more
        report = json.loads((folder / "report.json").read_text())
        assert len(report["images"]) == 16 and report["run"]["space"] == space
        for image in report["images"]:
            assert image["identical_to_stock"] != image["corrected"]
            assert image["flagged"] == bool(image["regions"])
        assert report["run"]["seconds_asced"] > 0 and report["run"]["seconds_model"] > 0
        assert report["decision"] is not None and report["decision_sigma"] > 0


def test_a_server_that_cannot_start_says_why(tmp_path):
    with (
        pytest.raises(RuntimeError, match="exited during startup"),
        tool.ComfyServer(tmp_path, options=("--nonsense",)),
    ):
        pass
