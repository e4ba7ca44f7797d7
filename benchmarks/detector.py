"""Detector against a plain scipy one, in pairs in one run: ``python -m benchmarks.detector``.

The other side is the method as one would write it with scipy and numpy on the CPU: ``gaussian_filter`` over the
frames' differences, ``numpy.median`` twice, a full-image pass per region. Both give the same mask.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import ndimage

from asced_core import DetectionSettings, detect


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
    """Predictions of a calm run with noise and one square that jumps and stalls, uint8 [N,H,W,3]."""
    rng = np.random.default_rng(0)
    base = ndimage.gaussian_filter(rng.normal(size=(side, side, 3)), (side / 16, side / 16, 0)) * side * 2 + 128
    frames = []
    for step in range(count):
        frame = base + rng.normal(size=base.shape) * 4
        if step >= count // 2:
            frame[side // 3 : side // 2, side // 3 : side // 2] += 60
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 256, 512, 1024])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    print(f"{args.frames} frames, {torch.get_num_threads()} thread(s), median of {args.runs} pairs")
    print(f"{'side':>6} {'ours, ms':>10} {'scipy, ms':>10} {'scipy / ours':>13}")
    for side in args.sides:
        frames = frames_with_artifact(side, args.frames)
        settings = DetectionSettings(mode="reference", max_area=side * side // 2)
        ours = partial(detect, frames, settings)
        plain = partial(plain_detect, frames, settings)
        if not np.array_equal(ours().mask, plain()):
            raise SystemExit(f"The two detectors disagree at {side} pixels; the comparison means nothing.")
        pairs = [(_seconds(ours), _seconds(plain)) for _ in range(args.runs)]
        mine, theirs = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{side:>6} {mine:>10.1f} {theirs:>10.1f} {ratio:>13.2f}")


if __name__ == "__main__":
    main()
