"""The paper's other corrections and detectors in a real ComfyUI."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

METHODS = ("replace", "clip", "sargd")
LOOSE = {"min_width": 8, "min_area": 300}


class Corner(torch.nn.Module):
    """Marks the upper left quarter as an artifact; stands in for PAL's weights, which users provide."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        labels = torch.zeros(x.shape[2], x.shape[3], dtype=torch.long)
        labels[: x.shape[2] // 2, : x.shape[3] // 2] = 1
        return labels


@pytest.fixture
def corner(tmp_path):
    import folder_paths

    file = tmp_path / "corner.pt"
    torch.jit.script(Corner()).save(str(file))
    paths, _ = folder_paths.folder_names_and_paths["asced"]
    paths.append(str(tmp_path))
    folder_paths.filename_list_cache.pop("asced", None)
    yield file.name
    paths.remove(str(tmp_path))
    folder_paths.filename_list_cache.pop("asced", None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_they_change_what_was_found(sample, loud, method, sampler):
    stock = sample(loud, None, sampler_name=sampler)["samples"]
    latent, _, report = sample(loud, LOOSE, {"method": method}, sampler_name=sampler)
    assert report.images[0].corrected, report.summary()
    assert not torch.equal(latent["samples"][0], stock[0])
    assert torch.isfinite(latent["samples"]).all()


@pytest.mark.parametrize("method", METHODS)
def test_nothing_found_is_bit_identical_to_stock(sample, loud, method):
    latent, _, report = sample(loud, {"min_area": 60000, "max_area": 65000}, {"method": method})
    assert not any(image.corrected for image in report.images)
    assert torch.equal(latent["samples"], sample(loud, None)["samples"])


def test_a_detector_from_a_file_provides_the_mask(sample, loud, demo, run_node, corner):
    detector, mask, par = run_node("ASCED_PALDetector", file=corner, image=torch.rand(2, 64, 64, 3))
    assert mask.shape == (2, 64, 64) and par == 0.25
    assert mask[:, :32, :32].all() and mask.sum() == 2 * 32 * 32
    _, found, report = sample(loud, {"detector": detector, "vae": demo.vae})
    assert all(image.corrected for image in report.images)
    assert torch.equal(found.bool(), mask.bool())


def test_a_detector_needs_the_vae(run_node, corner):
    detector, mask, _ = run_node("ASCED_PALDetector", file=corner)
    assert not mask.any()
    with pytest.raises(ValueError, match="vae"):
        run_node("ASCED_Detection", threshold=3.0, detector=detector)


def test_a_missing_file_gets_one_clear_error(run_node):
    with pytest.raises(ValueError, match="There is no file nothing"):
        run_node("ASCED_PALDetector", file="nothing.pt")
    with pytest.raises(ValueError, match="No detector is installed: put"):
        run_node("ASCED_PALDetector", file="put a TorchScript file into models/asced")


@pytest.fixture
def server():
    """Stands in for a model: answers yes and no in turn, and keeps the headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.headers.append(self.headers)
            self.send_response(self.server.status)
            self.end_headers()
            content = ("Yes.", "No.")[(len(self.server.headers) - 1) % 2]
            self.wfile.write(json.dumps({"choices": [{"message": {"content": content}}]}).encode())

        def log_message(self, *args):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    http.headers, http.status = [], 200
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


def _verdict(run_node, endpoint):
    return run_node(
        "ASCED_VLMVerdict", image=torch.rand(2, 16, 16, 3), endpoint=endpoint, model="eyes", paper_question=5,
        custom_question="", timeout=5.0,
    )  # fmt: skip


def test_a_vision_language_models_verdict(run_node, server):
    assert _verdict(run_node, f"http://127.0.0.1:{server.server_port}/v1") == (True, 0.5, "Yes.\nNo.")


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ("", False),
        ("http://127.0.0.1:1/v1", False),
        ("http://127.0.0.1:{port}", False),
        ("http://127.0.0.1:{port}/v1/", True),
    ],
)
def test_the_key_is_sent_only_to_the_address_set_on_this_machine(run_node, server, monkeypatch, named, sent):
    """An address from someone else's workflow gets no key."""
    monkeypatch.setenv("ASCED_VLM_KEY", "secret")
    monkeypatch.setenv("ASCED_VLM_ENDPOINT", named.format(port=server.server_port))
    _verdict(run_node, f"http://127.0.0.1:{server.server_port}/v1")
    assert len(server.headers) == 2
    assert all((headers["Authorization"] == "Bearer secret") == sent for headers in server.headers)
    server.status = 401
    with pytest.raises(ValueError, match="refused with 401") as error:
        _verdict(run_node, f"http://127.0.0.1:{server.server_port}/v1")
    assert ("was not sent" in str(error.value)) != sent


def test_an_empty_endpoint_means_the_one_in_the_environment(run_node, server, monkeypatch):
    monkeypatch.setenv("ASCED_VLM_KEY", "secret")
    monkeypatch.setenv("ASCED_VLM_ENDPOINT", f"http://127.0.0.1:{server.server_port}/v1")
    _verdict(run_node, "")
    assert server.headers[0]["Authorization"] == "Bearer secret"
