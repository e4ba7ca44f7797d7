"""The paper's other corrections and detectors in the real host."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

METHODS = ("replace", "clip", "sargd")
LOOSE = {"min_width": 8, "min_area": 300}


class Corner(torch.nn.Module):
    """Calls the upper left quarter an artifact; stands in for PAL's weights, which are the user's."""

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


def test_a_detector_from_a_file_says_where(sample, loud, demo, run_node, corner):
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


def test_a_file_that_is_not_there_gets_one_sentence(run_node):
    with pytest.raises(ValueError, match="There is no file nothing"):
        run_node("ASCED_PALDetector", file="nothing.pt")
    with pytest.raises(ValueError, match="There is no detector in models/asced: put"):
        run_node("ASCED_PALDetector", file="put a TorchScript file into models/asced")


def test_a_language_models_verdict(run_node):
    answers = iter(["Yes.", "No."])

    class Handler(BaseHTTPRequestHandler):  # stands in for a model, which cannot run here
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": {"content": next(answers)}}]}).encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        got = run_node(
            "ASCED_VLMVerdict", image=torch.rand(2, 16, 16, 3), endpoint=f"http://127.0.0.1:{server.server_port}/v1",
            model="eyes", prompt=5, own_question="", timeout=5.0,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert got == (True, 0.5, "Yes.\nNo.")
