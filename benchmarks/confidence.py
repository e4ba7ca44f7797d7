"""How often marks are right: ``python -m benchmarks.confidence``, part of ``make bench``.

Writes docs/benchmarks/confidence.md.

A mark in an image judged by eye is right if half of it or more lies in the judge's box, which holds the worst place
only; in an image judged clean no mark is right. Half of the images are faulty. The certainty of the modes ``strict``
and ``robust`` (lasting.py) and the discount of taught detectors (certify.py) come from the choosing half.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asced_core import DetectionSettings
from asced_core.detect.certainty import Certainty
from asced_core.detect.detection import find_in, make_detector, to_cpu
from asced_core.detect.learned import Learned
from asced_core.maps import BoolMap
from asced_core.settings import LEARNED
from asced_core.teach import Taught
from benchmarks import overlays
from benchmarks.detection_sets import HALVES, boxed, recordings
from benchmarks.hands import HandSampler, Recording
from benchmarks.methods import one_thread
from benchmarks.table1 import DOCS
from benchmarks.teach_files import taught_file

SETS = ("judged.json", "judged_by_class.json")
SHARES = (0.1, 0.33, 0.67)  # of images that a taught detector marks
BANDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.01)  # of confidence
QUICK = 40  # images


@dataclass(frozen=True)
class Marks:
    """Marks of many images: confidence and strength of each, and whether it is right."""

    confidences: NDArray[np.float64]
    strengths: NDArray[np.float64]
    right: NDArray[np.bool_]
    images: int
    marked: NDArray[np.bool_]
    faulty: NDArray[np.bool_]


def judged(half: str) -> tuple[list[int], list[list[tuple[int, int, int, int]]]]:
    """Seeds of one half of both judged sets, and the judge's boxes; clean images have none."""
    boxes: dict[int, list[tuple[int, int, int, int]]] = {}
    for name in SETS:
        verdicts = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
        boxes |= {e["seed"]: [tuple(e["box"])] for e in verdicts["artifact"]} | {s: [] for s in verdicts["clean"]}
    kept = {seed: box for seed, box in boxes.items() if (seed // 10) % 2 == HALVES.index(half)}
    return list(kept), list(kept.values())


def marks_in(frames: Tensor, truth: BoolMap, settings: DetectionSettings, learned: Learned | None = None) -> Marks:
    """The marks in frames [N,B,C,H,W], and which of them lie in the truth [B,H,W] by half or more."""
    shape: Any = tuple(frames.shape[1:])
    detector = make_detector(settings, shape, frames.device, learned=learned)
    for frame in frames if settings.mode == LEARNED else frames[:-1]:  # which alone sees T_c
        detector.push(frame)
    evidence = detector.result()
    ratio, thresholds, _ = to_cpu(evidence)
    unit = 1.0 if evidence.certainty is None else evidence.certainty.unit
    rows = []
    found = [find_in(r, t, settings, certainty=evidence.certainty) for r, t in zip(ratio, thresholds, strict=True)]
    for own, box in zip(found, truth, strict=True):
        for number, region in enumerate(own.regions, 1):
            inside = box[own.labels == number].mean() >= 0.5
            rows.append((region.confidence or 0.0, region.score * unit, bool(inside)))
    columns = np.array(rows, float).reshape(-1, 3)
    marked = np.array([bool(own.regions) for own in found])
    faulty = np.asarray(truth.any((1, 2)), bool)
    return Marks(columns[:, 0], columns[:, 1], columns[:, 2] > 0, len(found), marked, faulty)


def rows_of(half: str, images: int | None) -> dict[str, Marks]:
    """Every detector's marks in one half."""
    seeds, boxes = judged(half)
    seeds, boxes = seeds[:images], boxes[:images]
    sampler = HandSampler("final")
    frames = window_and_after(sampler, recordings(sampler, seeds))
    truth = boxed(boxes, frames.shape[-1])
    table = {
        mode: marks_in(frames, truth, DetectionSettings(mode=mode, base_size=256)) for mode in ("strict", "robust")
    }
    taught = Taught.load(taught_file("final"))
    for share in SHARES:
        settings = taught.applied(DetectionSettings(base_size=256), share)
        table[f"taught, {share:.0%} marked"] = marks_in(frames, truth, settings, taught.learned)
    return table


def window_and_after(sampler: HandSampler, runs: Iterable[Recording]) -> Tensor:
    """The predictions of the window and of T_c, [N,B,C,H,W]."""
    steps = sampler.watched(DetectionSettings())
    seen = range(steps[0], steps[-1] + 2)
    return torch.cat([torch.stack([run.predictions[step] for step in seen]) for run in runs], 1)


def as_markdown(halves: dict[str, dict[str, Marks]]) -> str:
    """The tables of the reporting half."""
    table = halves[HALVES[1]]
    lines = [
        "# How often marks are right",
        "",
        "Written by `make bench`: final hand model, images judged by eye, half of them faulty, reporting half. A mark "
        "is right if half of it or more lies in the judge's box, which holds only the worst place of the image; in a "
        "clean image none is. *Said*: mean confidence of the marks.",
        "",
        "| detector | clean images marked | faulty images marked | marks | said | right |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in table.items():
        shares = [own.marked[~own.faulty].mean(), own.marked[own.faulty].mean()]
        said, right = (float(v.mean()) if len(v) else float("nan") for v in (own.confidences, own.right))
        lines.append(
            f"| {name} | {shares[0]:.0%} | {shares[1]:.0%} | {len(own.right)} | {said:.2f} | {right:.2f} |"
        )  # fmt: skip
    lines += [
        "",
        "All marks of these detectors, by the confidence they state:",
        "",
        "| confidence | marks | said | right |",
        "|---|---|---|---|",
    ]
    sure = np.concatenate([own.confidences for own in table.values()])
    hits = np.concatenate([own.right for own in table.values()])
    for low, high in itertools.pairwise(BANDS):
        inside = (sure >= low) & (sure < high)
        if inside.any():
            means = f"{sure[inside].mean():.2f} | {hits[inside].mean():.2f}"
            lines.append(f"| {low:.2f} … {min(high, 1):.2f} | {inside.sum()} | {means} |")
    return "\n".join([*lines, *overlays.as_markdown()]) + "\n"


def learned_from(marks: Marks) -> str:
    """The certainty that the choosing half teaches, and the discount for a taught detector's own certainty."""
    certainty = Certainty.of(marks.strengths.tolist(), marks.right.tolist(), 60)
    discount = marks.right.mean() / max(float(marks.confidences.mean()), 1e-9) if len(marks.right) else float("nan")
    return f"{certainty}; right / said {discount:.2f}"


def main(run: Callable[[str, int | None], dict[str, Marks]] = rows_of) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images per half; leave docs unchanged")
    args = parser.parse_args()
    one_thread()
    halves = {half: run(half, QUICK if args.quick else None) for half in HALVES}
    for name, own in halves[HALVES[0]].items():
        print(f"choosing half, {name}: {learned_from(own)}")
    text = as_markdown(halves)
    print(text)
    if not args.quick:
        overlays.picture()
        (DOCS / "confidence.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
