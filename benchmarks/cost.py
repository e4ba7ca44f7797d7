"""The cost of each method per image: ``python -m benchmarks.cost``, part of ``make bench``.

Times all methods in turn on the same recorded runs, several rounds in one process on one thread, and reports medians.
Run it on a quiet machine: the seconds hold for that machine only, the ratios carry over. Writes
docs/benchmarks/cost.json and cost.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from asced_core import DetectionSettings, detect
from asced_core.detect.learned import FaultNet, Learned, stride_for
from asced_core.settings import LEARNED
from benchmarks.detector import frames_with_artifact
from benchmarks.hands import HandSampler, record
from benchmarks.methods import rows_of, supervised
from benchmarks.table1 import DOCS, STEPS

IMAGES, ROUNDS, QUICK_IMAGES, QUICK_ROUNDS = 16, 3, 2, 1
FIRST = 40000  # seed
INPAINT = 0.5  # denoise of a detailer's second sampling, the default of Impact Pack's FaceDetailer
SDXL = (4, 128, 128)  # latent of an image of 1024 pixels
SUPERVISED, DETAILER = "supervised + TTC", "supervised, then inpainting"
LARGE, FRAMES = 512, 8  # image side in pixels, and predictions in the window of a 25-step run


def by_method(images: int, rounds: int) -> dict[str, Any]:
    """Per image: seconds in detection and correction, seconds in the model, and model calls."""
    sampler = HandSampler("final")
    run = record(sampler, list(range(FIRST, FIRST + images)))
    methods = rows_of(sampler.test_set)
    own: dict[str, list[float]] = {name: [] for name in methods}
    calls: dict[str, float] = {}
    found = 0.0  # share of the images in which the trained detector finds something
    spent, made = sampler.seconds, sampler.calls
    for turn in range(rounds + 1):  # the first round warms up
        for name, method in methods.items():
            outcome = method(sampler, run)
            if turn:
                own[name].append(outcome.seconds / images)
            calls[name] = STEPS + outcome.calls / images
            found = float(outcome.corrected.mean()) if name == SUPERVISED else found
    call = (sampler.seconds - spent) / (sampler.calls - made)
    own[DETAILER], calls[DETAILER] = own[SUPERVISED], STEPS + found * INPAINT * STEPS
    return {
        name: {"own": statistics.median(seconds), "calls": calls[name], "model": call * calls[name]}
        for name, seconds in own.items()
    }


def at_512(rounds: int) -> dict[str, float]:
    """Seconds for one 512-pixel image: the whole window for ASCED, one call for the trained detector.

    The trained detector has PAL's interface, and a network many times smaller than PAL's.
    """
    frames = torch.from_numpy(frames_with_artifact(LARGE, FRAMES)).movedim(-1, 1).float() / 127.5 - 1
    trained = supervised(HandSampler("final"))
    detectors: dict[str, Callable[[], object]] = {
        "ASCED robust": lambda: detect(frames, DetectionSettings()),
        "ASCED reference": lambda: detect(frames, DetectionSettings(mode="reference")),
        "supervised": lambda: trained(frames[-1:]),
    }
    return _medians(detectors, rounds)


def at_sdxl(rounds: int) -> dict[str, float]:
    """Seconds for one latent of an SDXL image of 1024 pixels; the taught network has random weights."""
    frames = torch.randn(FRAMES, *SDXL, generator=torch.Generator().manual_seed(0))
    untaught = Learned(FaultNet(SDXL[0], stride=stride_for(*SDXL[1:])).eval())
    settings = {mode: DetectionSettings(mode=mode, base_size=256) for mode in ("strict", "reference", LEARNED)}
    detectors: dict[str, Callable[[], object]] = {
        {LEARNED: "taught"}.get(mode, f"ASCED {mode}"): partial(detect, frames, own, untaught)
        for mode, own in settings.items()
    }
    return _medians(detectors, rounds)


def _medians(detectors: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    for _ in range(rounds + 1):
        for name, call in detectors.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def as_markdown(result: dict[str, Any]) -> str:
    """Both tables."""
    stock = result["methods"]["original"]["model"]
    lines = [
        "# Cost", "", f"Written by `make bench`: {result['images']} images of 64 pixels, 25 steps, one CPU thread; "
        f"median of {result['rounds']} rounds in one process. *Own*: time in detection and correction, without the "
        "model, also as a share of the model's time for the uncorrected image. *Total / stock*: all of the image's "
        "time against that same model time. *Original* is watched but not corrected. *Supervised, then "
        "inpainting* is the arithmetic of a detailer: each image in which the trained detector finds something is "
        f"finished, and the region is sampled again at the image's size, with denoise {INPAINT:g}.", "",
        "| method | own, ms | own / stock | model calls | total / stock |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in result["methods"].items():
        lines.append(
            f"| {name} | {row['own'] * 1000:.2f} | {row['own'] / stock:.1%} | {row['calls']:.1f} "
            f"| {(row['own'] + row['model']) / stock:.2f} |"
        )
    lines += ["", f"One image of {LARGE} pixels, {FRAMES} predictions:", "", "| detector | ms |", "|---|---|"]
    lines += [f"| {name} | {seconds * 1000:.1f} |" for name, seconds in result["at_512"].items()]
    size = "×".join(map(str, SDXL))
    lines += ["", f"One latent of {size}, as SDXL has at 1024 pixels, {FRAMES} predictions:", ""]
    lines += ["| detector | ms |", "|---|---|"]
    lines += [f"| {name} | {seconds * 1000:.1f} |" for name, seconds in result["at_sdxl"].items()]
    lines += ["", "The paper reports 0.09 s for its method and 0.79 s for PAL, a ratio of 8.8, on a data-center GPU."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use few images and leave docs unchanged")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images, rounds = (QUICK_IMAGES, QUICK_ROUNDS) if args.quick else (IMAGES, ROUNDS)
    result = {
        "images": images, "rounds": rounds, "methods": by_method(images, rounds), "at_512": at_512(rounds),
        "at_sdxl": at_sdxl(rounds),
    }  # fmt: skip
    text = as_markdown(result)
    print(text)
    if not args.quick:
        DOCS.mkdir(parents=True, exist_ok=True)
        (DOCS / "cost.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (DOCS / "cost.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
