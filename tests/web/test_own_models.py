"""The templates for your own models run to the end, with small files of random weights in place of large ones.

Only file names, the text encoder's loader and sizes are changed. SDXL's and Flux's networks exist in one size only, of
gigabytes; an SD 1.5 checkpoint and an SD 3 model stand in for them in the same nodes. That SDXL, Flux and similar
models are corrected at all is measured in docs/compatibility.md.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from .conftest import open_page, read

TEXT = {"class_type": "CLIPLoader", "inputs": {"clip_name": "tiny_clip_l.safetensors", "type": "sd3"}}
CHECKPOINT = {"ckpt_name": "tiny_sd15.safetensors"}
SMALL = {"width": 128, "height": 128, "length": 9}
# By template: files, and sizes of the images that its nodes save or show; the frames of a video are in one file.
CASES = {
    "02 Any checkpoint": (CHECKPOINT, {"SaveImage": 128, "PreviewImage": 256, "ASCED_MaskPreview": 128}),
    "05 SDXL with hires fix": (CHECKPOINT, {"SaveImage": 192, "PreviewImage": 256}),
    "06 Flux and other guiders": (
        {"unet_name": "tiny_sd3.safetensors", "vae_name": "tiny_16.safetensors"},
        {"SaveImage": 128, "PreviewImage": 256, "ASCED_MaskPreview": 128},
    ),
    "07 Video": (
        {"unet_name": "tiny_wan.safetensors", "vae_name": "tiny_wan.safetensors"},
        {"SaveAnimatedWEBP": 128, "ASCED_MaskPreview": 128},
    ),
}


@pytest.fixture(scope="module")
def files(server):
    """The model files, in the server's models folder."""
    stubs = {"PYTHONPATH": os.environ.get("ASCED_STUBS", "")}
    command = [sys.executable, Path(__file__).with_name("tiny_files.py"), os.environ["ASCED_COMFYUI"]]
    subprocess.run([*command, server.base / "models"], check=True, cwd=server.base, env=os.environ | stubs)


def _substituted(prompt, names):
    """The template's graph with small files and sizes, and a node that outputs each report."""
    for key, node in list(prompt.items()):
        kind, inputs = node["class_type"], node["inputs"]
        if kind in ("DualCLIPLoader", "CLIPLoader"):
            prompt[key] = TEXT
        inputs |= {name: value for name, value in (names | SMALL).items() if name in inputs}
        if kind == "ASCED_Overlay":
            shown = {"report": inputs["report"], "grow_px": 0, "feather_px": 0, "min_score": 0.0, "exclude": ""}
            prompt[f"{key}0"] = {"class_type": "ASCED_MaskPreview", "inputs": shown}
    return prompt


@pytest.fixture(scope="module")
def prompts(server, browser):
    """The templates as the page would queue them."""
    out = {}
    with open_page(server, browser) as page:
        for name in CASES:
            page.load(read(name))
            out[name] = page.prompt()
    return out


@pytest.mark.parametrize("name", CASES)
def test_it_runs_to_the_end_and_returns_images_masks_and_reports(server, prompts, files, name):
    names, sizes = CASES[name]
    prompt = _substituted(prompts[name], names)
    with ThreadPoolExecutor() as pool:  # the browser's event loop holds this thread
        outputs = pool.submit(server.run, prompt).result()
    kinds = {key: node["class_type"] for key, node in prompt.items()}
    for kind, side in sizes.items():
        shown = [output for key, output in outputs.items() if kinds[key] == kind]
        assert shown, kind
        picture = Image.open(io.BytesIO(server.view(shown[0]["images"][0])))
        assert picture.size == (side, side), (kind, picture.size)
    reports = [json.loads(one["asced_report"][0]) for one in outputs.values() if "asced_report" in one]
    assert len(reports) == sum(kind == "ASCED_MaskPreview" for kind in kinds.values())
    for report in reports:
        assert report["decision"] is not None, report["summary"]  # the run was watched up to T_c
