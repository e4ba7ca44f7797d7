"""What drafts cost: CPU seconds of ASCED Draft and Pick over those of N full runs, ``python -m benchmarks.draft_cost``.

Part of ``make bench``. In a real ComfyUI (its folder in ASCED_COMFYUI), on one CPU thread: N drafts of which K are
finished, in one batch and one after another, against the same seeds in ComfyUI's own KSampler, in one batch and one
after another. They take turns, and the ratio is that of their medians. Nothing is corrected, so the arithmetic is
(N c + K (1 - c)) / N, where c is the share of the steps before the drafts are compared. A small batch may cost more an
image than a large one, so there is also the arithmetic with the time that KSampler takes for K images. Run it on a
quiet machine.
Writes docs/benchmarks/draft_cost.json and draft_cost.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
VARIANTS, WAYS, SIDE = ("pixel", "latent"), ("all", "one"), 64  # side of the image in pixels
ROUNDS, QUICK_ROUNDS = 3, 1
LIMIT = 0.02  # above the arithmetic


def load_nodes(cpu: bool = True) -> dict[str, Any]:
    """The pack's node classes by id, loaded into ComfyUI as it loads them, on the CPU or on what ComfyUI finds."""
    load_host(Path(os.environ[COMFYUI]))
    stubs = [path for path in (os.environ.get("ASCED_STUBS"),) if path]  # for packages that ComfyUI can do without
    # without this checkout, whose nodes folder would hide ComfyUI's nodes
    sys.path[:] = [*stubs, *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    from comfy.cli_args import args

    args.base_directory, args.cpu = tempfile.mkdtemp(), cpu  # read when ComfyUI's modules are imported
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    spec = importlib.util.spec_from_file_location("asced", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None
    assert spec.loader is not None
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


def medians(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """CPU seconds of things that take turns; the first round warms up."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for times, call in zip(seconds, calls, strict=True):
            begin = time.process_time()
            call()
            if turn:
                times.append(time.process_time() - begin)
    return [statistics.median(times) for times in seconds]


@dataclass(frozen=True)
class Scene:
    """One demo model, sampled with drafts and without.

    Attributes:
        nodes: of the pack.
        model, positive, negative: ComfyUI's objects.
        empty: a latent of zeros for one image.
        quiet: settings that correct nothing.
    """

    nodes: dict[str, Any]
    model: Any
    positive: Any
    negative: Any
    empty: torch.Tensor
    quiet: Any

    @classmethod
    def of(cls, nodes: dict[str, Any], variant: str) -> Scene:
        """The pixel or the latent model."""
        model, vae, positive, negative = run(nodes, "ASCED_DemoModel", digit="3", variant=variant)
        empty = torch.zeros_like(vae.encode(torch.zeros(1, SIDE, SIDE, 3)))
        return cls(nodes, model, positive, negative, empty, run(nodes, "ASCED_Correction", method="none")[0])

    def picked(self, drafts: int, keep: int, way: str) -> object:
        """Samples with drafts."""
        return run(
            self.nodes, "ASCED_DraftAndPick", model=self.model, seed=0, drafts=drafts, keep=keep, decide_at=DECIDE_AT,
            steps=STEPS, cfg=CFG, sampler_name="euler", scheduler="normal", positive=self.positive,
            negative=self.negative, latent_image={"samples": self.empty}, denoise=1.0, correction=self.quiet,
            at_once=way,
        )  # fmt: skip

    def stock(self, images: int, way: str) -> object:
        """Samples as many images with ComfyUI's own KSampler."""
        from nodes import common_ksampler  # type: ignore[attr-defined]

        batch, runs = (images, 1) if way == "all" else (1, images)
        latent = {"samples": self.empty.repeat(batch, 1, 1, 1)}
        given = (STEPS, CFG, "euler", "normal", self.positive, self.negative, latent)
        return [common_ksampler(self.model, seed, *given) for seed in range(runs)]


def measure(rounds: int) -> list[dict[str, Any]]:
    """One row for each model, number of drafts and way."""
    nodes, rows = load_nodes(), []
    for variant in VARIANTS:
        scene = Scene.of(nodes, variant)
        for (drafts, keep), way in itertools.product(CASES, WAYS):
            full, part = partial(scene.stock, drafts, way), partial(scene.stock, keep, way)
            ours, theirs, few = medians([partial(scene.picked, drafts, keep, way), full, part], rounds)
            share = math.ceil(DECIDE_AT * STEPS) / STEPS
            rows.append({
                "model": variant, "drafts": drafts, "kept": keep, "way": way, "seconds": ours, "stock": theirs,
                "ratio": ours / theirs, "arithmetic": (drafts * share + keep * (1 - share)) / drafts,
                "by time": share + few / theirs * (1 - share),
            })  # fmt: skip
    return rows


def as_markdown(rows: list[dict[str, Any]], rounds: int) -> str:
    """The table."""
    lines = [
        "# What drafts cost", "", f"Written by `python -m benchmarks.draft_cost`: ComfyUI, euler, {STEPS} steps, CFG "
        f"{CFG:g}, drafts compared at {DECIDE_AT:g} of the run, nothing corrected, one CPU thread; medians of {rounds} "
        "rounds, in turn with ComfyUI's own KSampler on the same seeds. *Arithmetic*: (N c + K (1 - c)) / N; "
        "*by time*: with the time that KSampler takes for K images in place of K / N. The goal "
        f"is at most {LIMIT:.2f} above it.", "",
        "| model | drafts | finished | at once | time against N full runs | arithmetic | above | by time | above |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['model']} | {row['drafts']} | {row['kept']} | {row['way']} | {row['ratio']:.3f} "
        f"| {row['arithmetic']:.3f} | {row['ratio'] - row['arithmetic']:+.3f} "
        f"| {row['by time']:.3f} | {row['ratio'] - row['by time']:+.3f} |"
        for row in rows
    ]
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
