"""How time and memory of our own part grow with steps, cells, images and frames: ``python -m benchmarks.scaling``.

Each row is a process of its own on one CPU thread. It plays a run without a model: predictions with noise and one
artifact per image, watched, decided and reported as in a sampler. Memory is the peak that the run adds to the process;
one copy of the predictions that the sampler itself would hold is made before it starts. Writes
docs/benchmarks/scaling.json and scaling.md.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from asced_core import DetectionSettings, DiscreteSchedule, RunFacts, Trajectory, vp_level
from asced_core.decision import Decision
from asced_core.progress import marked_so_far

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
Size = tuple[int, ...]  # [B,C,H,W], or [B,C,T,H,W] for a video
USUAL = (1, 4, 128, 128)  # latent of an SDXL image of 1024 pixels
STEPS = 25
SERIES: dict[str, list[tuple[int, Size]]] = {
    "steps": [(steps, USUAL) for steps in (25, 100, 1000)],
    "cells": [(STEPS, (1, 4, side, side)) for side in (64, 128, 256, 512)],
    "images": [(STEPS, (images, 4, 128, 128)) for images in (1, 4, 16, 64)],
    "frames": [(STEPS, (1, 16, frames, 60, 104)) for frames in (9, 33, 65, 257)],
}
UNITS = {
    "steps": lambda steps, size: steps,
    "cells": lambda steps, size: size[-1] * size[-2],
    "images": lambda steps, size: size[0],
    "frames": lambda steps, size: size[2],
}
MODES = ("strict", "robust", "reference")
MB = 1e6


def predictions(size: Size) -> list[Tensor]:
    """Four predictions that a run goes through in turn, the later two with an artifact in each image."""
    generator = torch.Generator().manual_seed(0)
    base = torch.nn.functional.interpolate(
        torch.randn(1, size[1], 8, 8, generator=generator), size=size[-2:], mode="bicubic"
    )
    base = base if len(size) == 4 else base.unsqueeze(2)
    out = [base + 0.05 * torch.randn(size, generator=generator) for _ in range(4)]
    top, side = size[-2] // 3, max(2, size[-2] // 6)
    for late in out[2:]:
        late[..., top : top + side, top : top + side] += 1.5
    return out


def run(steps: int, size: Size, mode: str) -> dict[str, Any]:
    """Seconds, peak megabytes and the sizes of the report, of one run in this process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    places = torch.linspace(999, 0, steps).long().tolist()
    levels = [*(vp_level(alphas[place].item()) for place in places), vp_level(1.0)]
    training = DiscreteSchedule.from_alphas_cumprod(alphas.tolist())
    frames = predictions(size)
    played(levels, training, [frame[..., :16, :16] for frame in frames], mode)  # warms up
    torch.ones(2, 64, 64) @ torch.ones(64, 64)  # loads the library of matrix products, which a host has done long ago
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    trajectory = played(levels, training, frames, mode)
    report = trajectory.report(RunFacts("euler"))
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    shown = previewed(levels, training, frames, mode)
    arrays = (report.labels, report.ratios, report.trace, report.frames)
    return {
        "seconds": seconds,
        "preview": shown,
        "peak": peak * 1024 / MB,
        "held": sum(array.nbytes for array in arrays) / MB,
        "json": len(report.to_json().encode()) / MB,
        "regions": sum(len(image.regions) for image in report.images),
    }


def played(levels: list[Any], training: DiscreteSchedule, frames: list[Tensor], mode: str) -> Trajectory:
    """A run through its steps, with the correction's own work but without a model."""
    trajectory = Trajectory.begin(levels, training, DetectionSettings(mode=mode))
    window = trajectory.schedule.window
    middle = (window.first + window.last) / 2
    decision: Decision | None = None
    for step in range(len(levels) - 1):
        denoised = frames[step % 2 + 2 * (step > middle)]
        trajectory.observe(step, denoised, denoised)
        if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
            trajectory.correct(decision, denoised, denoised)
    return trajectory


def previewed(levels: list[Any], training: DiscreteSchedule, frames: list[Tensor], mode: str, calls: int = 5) -> float:
    """Seconds that the live preview takes at a step to find what is marked in the image that it shows."""
    trajectory = Trajectory.begin(levels, training, DetectionSettings(mode=mode))
    window = trajectory.schedule.window
    for step in range(window.last + 1):
        denoised = frames[2 * (step > (window.first + window.last) / 2)]
        trajectory.observe(step, denoised, denoised)
    begin = time.process_time()
    for _ in range(calls):
        marked_so_far(trajectory)
    return (time.process_time() - begin) / calls


def growth(rows: list[dict[str, Any]], key: str) -> float:
    """The largest exponent p of ``key ~ unit^p`` between neighboring rows; 1 is linear."""
    return max(math.log(b[key] / a[key]) / math.log(b["unit"] / a["unit"]) for a, b in pairwise(rows))


def measured(series: str, mode: str) -> list[dict[str, Any]]:
    """The rows of a series, each in a process of its own."""
    rows = []
    for steps, size in SERIES[series]:
        command = [sys.executable, "-m", "benchmarks.scaling", "--row", str(steps), *map(str, size), "--modes", mode]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append({"steps": steps, "size": size, "unit": UNITS[series](steps, size), **json.loads(out)})
        print(f"{series} {mode} {steps} {size} {rows[-1]['seconds']:.3f} s", flush=True)
    return rows


def as_markdown(result: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """One table per series."""
    lines = [
        "# Long and large runs", "",
        "Written by `python -m benchmarks.scaling`: our own part of a run, without a model, on one CPU thread. *Peak*: "
        "memory that the run adds at most; *report*: what it keeps, and its JSON; *preview*: what the live preview "
        "computes at each step, for the image that it shows. *Growth*: the exponent p with which time grows as size^p, "
        "the largest between neighboring rows; 1 is linear.",
    ]  # fmt: skip
    for series, modes in result.items():
        lines += ["", f"## More {series}", ""]
        lines += [
            "| mode | steps | size | time, ms | peak, MB | report, MB | JSON, kB | preview, ms | growth |",
            "|---" * 9 + "|",
        ]
        for mode, rows in modes.items():
            for place, row in enumerate(rows):
                power = f"{growth(rows, 'seconds'):.2f}" if place == len(rows) - 1 else ""
                size = "×".join(map(str, row["size"]))
                lines.append(
                    f"| {mode} | {row['steps']} | {size} | {row['seconds'] * 1000:.0f} | {row['peak']:.0f} "
                    f"| {row['held']:.1f} | {row['json'] * 1000:.0f} "
                    f"| {row['preview'] * 1000:.1f} | {power} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--series", nargs="+", choices=list(SERIES), help="print only these; docs stay unchanged")
    parser.add_argument("--row", nargs="+", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        steps, *size = args.row
        print(json.dumps(run(steps, tuple(size), args.modes[0])))
        return
    result = {series: {mode: measured(series, mode) for mode in args.modes} for series in args.series or SERIES}
    text = as_markdown(result)
    print(text)
    if not args.series:
        (DOCS / "scaling.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (DOCS / "scaling.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
