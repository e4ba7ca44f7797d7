"""What drafts cost: CPU seconds of ASCED Draft and Pick over those of N full runs, ``python -m benchmarks.draft_cost``.

Part of ``make bench``. In a real ComfyUI (its folder in ASCED_COMFYUI), on one CPU thread: N drafts of which K are
finished, in one batch and one after another, against the same seeds in ComfyUI's own KSampler, in one batch and one
after another. The two take turns, and the ratio is that of their medians. Nothing is corrected, so the arithmetic is
(N c + K (1 - c)) / N, where c is the share of the steps before the drafts are compared. Run it on a quiet machine.
Writes docs/benchmarks/draft_cost.json and draft_cost.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.hands import COMFYUI
from demo.train_latent import load_host

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "benchmarks"
STEPS, CFG, DECIDE_AT = 25, 2.0, 0.28
CASES = ((8, 1), (8, 2), (16, 4))  # drafts, and how many of them are finished
MODELS = {"pixel": 64, "latent": 64}  # side of the image in pixels
ROUNDS, QUICK_ROUNDS = 7, 1
LIMIT = 0.02  # above the arithmetic


def load_nodes() -> dict[str, Any]:
    """The pack's node classes by id, loaded into ComfyUI as it loads them."""
    load_host(Path(os.environ[COMFYUI]))
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != ROOT]  # its nodes folder hides ComfyUI's
    import comfy.utils
    from comfy.cli_args import args

    args.base_directory = tempfile.mkdtemp()
    comfy.utils.set_progress_bar_enabled(False)
    spec = importlib.util.spec_from_file_location("asced", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["asced"] = module
    spec.loader.exec_module(module)
    extension = asyncio.run(module.comfy_entrypoint())
    return {cls.GET_SCHEMA().node_id: cls for cls in asyncio.run(extension.get_node_list())}


def run(nodes: dict[str, Any], node_id: str, **inputs: Any) -> tuple[Any, ...]:
    """Executes a node; returns its outputs."""
    nodes[node_id].hidden = SimpleNamespace(unique_id=None, prompt=None, extra_pnginfo=None)
    outputs: tuple[Any, ...] = nodes[node_id].execute(**inputs).args
    return outputs


def medians(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """CPU seconds of two things that take turns; the first round warms up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for times, call in zip(seconds, (first, second), strict=True):
            begin = time.process_time()
            call()
            if turn:
                times.append(time.process_time() - begin)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def measure(rounds: int) -> list[dict[str, Any]]:
    """One row for each model, number of drafts and way."""
    nodes = load_nodes()
    from nodes import common_ksampler  # type: ignore[attr-defined]

    rows = []
    quiet = run(nodes, "ASCED_Correction", method="none")[0]
    for name, side in MODELS.items():
        model, vae, positive, negative = run(nodes, "ASCED_DemoModel", digit="3", variant=name)
        empty = vae.encode(torch.zeros(1, side, side, 3)) * 0
        for drafts, keep in CASES:
            for way in ("all", "one"):

                def picked(drafts: int = drafts, keep: int = keep, way: str = way) -> object:
                    return run(
                        nodes, "ASCED_DraftAndPick", model=model, seed=0, drafts=drafts, keep=keep,
                        decide_at=DECIDE_AT, steps=STEPS, cfg=CFG, sampler_name="euler", scheduler="normal",
                        positive=positive, negative=negative, latent_image={"samples": empty}, denoise=1.0,
                        correction=quiet, at_once=way,
                    )  # fmt: skip

                def stock(drafts: int = drafts, way: str = way) -> object:
                    batch, runs = (drafts, 1) if way == "all" else (1, drafts)
                    latent = {"samples": empty.repeat(batch, 1, 1, 1)}
                    given = (STEPS, CFG, "euler", "normal", positive, negative, latent)
                    return [common_ksampler(model, seed, *given) for seed in range(runs)]

                ours, theirs = medians(picked, stock, rounds)
                share = -(-DECIDE_AT * STEPS // 1) / STEPS
                arithmetic = (drafts * share + keep * (1 - share)) / drafts
                rows.append({
                    "model": name, "drafts": drafts, "kept": keep, "way": way, "seconds": ours, "stock": theirs,
                    "ratio": ours / theirs, "arithmetic": arithmetic,
                })  # fmt: skip
                print(rows[-1])
    return rows


def as_markdown(rows: list[dict[str, Any]], rounds: int) -> str:
    """The table."""
    lines = [
        "# What drafts cost", "", f"Written by `python -m benchmarks.draft_cost`: ComfyUI, euler, {STEPS} steps, CFG "
        f"{CFG:g}, drafts compared at {DECIDE_AT:g} of the run, nothing corrected, one CPU thread; medians of {rounds} "
        "rounds, in turn with ComfyUI's own KSampler on the same seeds. *Arithmetic*: (N c + K (1 - c)) / N. The goal "
        f"is at most {LIMIT:.2f} above it.", "",
        "| model | drafts | finished | at once | time against N full runs | arithmetic | above |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['drafts']} | {row['kept']} | {row['way']} | {row['ratio']:.3f} "
            f"| {row['arithmetic']:.3f} | {row['ratio'] - row['arithmetic']:+.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round; leaves docs unchanged")
    args = parser.parse_args()
    if not os.environ.get(COMFYUI):
        print(f"Drafts are timed in a real ComfyUI: set {COMFYUI} to its folder.")
        return
    torch.set_num_threads(1)
    rounds = QUICK_ROUNDS if args.quick else ROUNDS
    with torch.inference_mode():
        rows = measure(rounds)
    text = as_markdown(rows, rounds)
    print(text)
    if not args.quick:
        (DOCS / "draft_cost.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (DOCS / "draft_cost.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
