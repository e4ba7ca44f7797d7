"""Times the detector against a plain scipy version of mode ``reference``, in pairs: ``python -m benchmarks.detector``.

The scipy version is the method as one would write it with scipy and numpy on the CPU: ``gaussian_filter`` over the
differences of the frames, ``numpy.median`` twice, one pass over the image per region. Both give the same mask. Mode
``robust`` is timed in the same run. ``--against PATH`` also times ``asced_core`` of another checkout, such as a git
worktree of an earlier commit. Every run times everything once on one CPU thread, in alternating order; ratios are taken
within a run, and all figures are medians over the runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from scipy import ndimage

import asced_core
from asced_core import DetectionSettings

SIDES = (64, 128, 256, 512, 1024)
MODES = ("reference", "robust")
SCIPY = "scipy"
Call = Callable[[], Any]


def plain_detect(frames: np.ndarray, settings: DetectionSettings) -> np.ndarray:
    """Mode ``reference`` with scipy: uint8 frames [N,H,W,3] to a bool mask [H,W]."""
    raw = np.zeros(frames.shape[1:3], bool)
    values = frames.astype(np.float32)
    for earlier, later in itertools.pairwise(values):
        change = ndimage.gaussian_filter(np.abs(later - earlier), 2.0)
        middle = np.median(change)
        mad = np.median(np.abs(change - middle))
        raw |= (change > middle + settings.mad_scale * 1.4826 * mad).any(axis=-1)
    labels, count = ndimage.label(raw)
    mask = np.zeros_like(raw)
    square = np.ones((settings.min_width, settings.min_width))
    for label in range(1, count + 1):
        region = labels == label
        if settings.min_area < region.sum() < settings.max_area and ndimage.binary_erosion(region, square).any():
            mask |= region
    return mask


def frames_with_artifact(side: int, count: int) -> np.ndarray:
    """Predictions of a calm run with noise and one square that jumps and then stalls, uint8 [N,H,W,3]."""
    rng = np.random.default_rng(0)
    base = ndimage.gaussian_filter(rng.normal(size=(side, side, 3)), (side / 16, side / 16, 0)) * side * 2 + 128
    frames = []
    for step in range(count):
        frame = base + rng.normal(size=base.shape) * 4
        if step >= count // 2:
            frame[side // 3 : side // 2, side // 3 : side // 2] += 60
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def core_of(checkout: Path) -> ModuleType:
    """``asced_core`` of another checkout, imported under a name of its own.

    Raises:
        SystemExit: the folder holds no asced_core.
    """
    file, name = checkout / "asced_core" / "__init__.py", "asced_core_of_another_checkout"
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
    if not file.is_file() or spec is None or spec.loader is None:
        raise SystemExit(f"--against {checkout}: no asced_core in this folder. Give the root of a checkout of ASCED.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings_of(core: ModuleType, mode: str, side: int) -> Any:
    """DetectionSettings of a mode, by which a region may cover up to half of the image."""
    base = 256 if mode == "robust" else side  # the side that the mode's sizes are for
    return core.DetectionSettings(mode=mode, max_area=base * base // 2)


def calls_of(core: ModuleType, frames: np.ndarray) -> dict[str, Call]:
    """Detection in each mode by a version of ``asced_core``."""
    return {mode: partial(core.detect, frames, settings_of(core, mode, frames.shape[1])) for mode in MODES}


def timed(calls: dict[str, Call], runs: int) -> dict[str, list[float]]:
    """Seconds of each call in each run."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs):
        for name in list(calls)[:: -1 if run % 2 else 1]:
            begin = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def measured(side: int, frames_in_window: int, runs: int, other: ModuleType | None) -> dict[str, float]:
    """The figures of one image side, by column.

    Raises:
        SystemExit: the detector and the scipy version disagree.
    """
    frames = frames_with_artifact(side, frames_in_window)
    ours, before = calls_of(asced_core, frames), calls_of(other, frames) if other else {}
    plain = partial(plain_detect, frames, settings_of(asced_core, "reference", side))
    masks = {mode: call().mask for mode, call in ours.items()}  # also warms up
    if not np.array_equal(masks["reference"], plain()):
        raise SystemExit(f"The detector and the scipy version disagree at {side} pixels: the timing means nothing.")
    for mode, call in before.items():
        if not np.array_equal(masks[mode], call().mask):
            print(f"Note: the other checkout finds a different mask in mode {mode} at {side} pixels.")
    seconds = timed({**ours, SCIPY: plain, **{f"other {mode}": call for mode, call in before.items()}}, runs)

    def ratio(upper: str, lower: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[upper], seconds[lower], strict=True))

    row = {f"{name}, ms": 1000 * statistics.median(values) for name, values in seconds.items()}
    row |= {f"{SCIPY} / {mode}": ratio(SCIPY, mode) for mode in MODES}
    row["robust / reference"] = ratio("robust", "reference")
    return row | {f"other / this, {mode}": ratio(f"other {mode}", mode) for mode in before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), help="image sides in pixels")
    parser.add_argument("--frames", type=int, default=8, help="predictions in the window")
    parser.add_argument("--runs", type=int, default=7, help="number of pairs; figures are medians")
    parser.add_argument("--against", type=Path, metavar="PATH", help="another checkout to time in the same pairs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    other = core_of(args.against.resolve()) if args.against else None
    print(f"{args.frames} frames, one thread, medians of {args.runs} pairs" + f"; other: {args.against}" * bool(other))
    for place, side in enumerate(args.sides):
        row = measured(side, args.frames, args.runs, other)
        if place == 0:
            print("side  " + "  ".join(row))
        cells = (f"{value:.{1 if name.endswith('ms') else 2}f}".rjust(len(name)) for name, value in row.items())
        print(f"{side:>4}  " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
