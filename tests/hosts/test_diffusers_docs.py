"""The page and the example run as they stand."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import diffusers

from .families import FAMILIES, SCHEDULERS, noise, stable_diffusion

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/diffusers.md").read_text(encoding="utf-8")


def test_the_page_runs_from_top_to_bottom(monkeypatch, capsys):
    """Only the download is left out: the pipeline is a tiny one, which takes every prompt for the same."""
    pipe = stable_diffusion(vae=True)
    monkeypatch.setattr(pipe, "encode_prompt", lambda *_, **__: (noise(4, 7, 32, seed=2), noise(4, 7, 32, seed=3)))
    monkeypatch.setattr(pipe, "to", lambda _device: pipe)
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", lambda _name: pipe)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "docs/diffusers.md", "exec"), names)
    assert names["masks"].shape == (4, 128, 128) and names["overlay"].shape == (256, 256, 3)
    assert "no artifacts found in 4 images" in capsys.readouterr().out


def test_the_page_counts_what_was_measured():
    assert f"{len(FAMILIES)} pipelines" in PAGE and f"{len(SCHEDULERS)} schedulers" in PAGE
    assert f"diffusers {diffusers.__version__}" in PAGE


def test_the_example_finds_and_corrects(capsys):
    runpy.run_path(str(ROOT / "docs/examples/diffusers_watching.py"))
    said = capsys.readouterr().out.splitlines()
    assert "images corrected at step 13 of 25" in said[0]
    assert len(said) == 3 and " 0% marked" not in said[1] and said[1].endswith("overlay (256, 256, 3)")
