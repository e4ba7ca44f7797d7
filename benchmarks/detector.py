"""Times the detectors on one CPU thread, in one run: ``python -m benchmarks.detector``.

The measure is a plain scipy version of mode ``reference``, the authors' arithmetic as one would write it with scipy and
numpy: ``gaussian_filter`` over the differences of the frames, ``numpy.median`` twice, one pass over the image per
region. It must give the same mask as ``reference``, or there is no timing. Every round calls everything once, in
alternating order; ratios are taken within a round, and all figures are medians over the rounds. Time is CPU time, which
other programs disturb less; a quiet machine is still better. ``--write`` writes docs/benchmarks/speed.md and
speed.json. ``--against PATH`` also times ``asced_core`` of another checkout in the same rounds, such as a git worktree
of an earlier commit.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

import asced_core
from asced_core import DetectionSettings
from asced_core.detect.learned import FaultNet, Learned, stride_for
from asced_core.detect.run_score import ScoreReader
from asced_core.settings import LEARNED

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
SIDES = (64, 256, 512, 1024)
LATENT = (128, 4)  # side and channels for an SDXL picture of 1024 pixels
MODES = ("reference", "robust", "strict")
SCIPY, TAUGHT, SCORE = "scipy", "taught", "run score"
COLUMNS = (*MODES, TAUGHT, SCORE)
MANY = 30  # squares that jump
BASE = 256  # side that the sizes of modes other than reference are for
Call = Callable[[], Any]


@dataclass(frozen=True, eq=False)
class Window:
    """What the detectors get.

    Attributes:
        name: names the row.
        frames: predictions, uint8 [N,H,W,C].
        signal: the same for our detectors: uint8 for pictures, float [N,C,H,W] for latents.
    """

    name: str
    frames: np.ndarray
    signal: np.ndarray | Tensor

    @property
    def side(self) -> int:
        """Height and width in cells."""
        return self.frames.shape[1]


def plain_detect(frames: np.ndarray, settings: DetectionSettings) -> np.ndarray:
    """Mode ``reference`` with scipy: uint8 frames [N,H,W,C] to a bool mask [H,W]."""
    raw = np.zeros(frames.shape[1:3], bool)
    values = frames.astype(np.float32)
    for earlier, later in itertools.pairwise(values):
        change = ndimage.gaussian_filter(np.abs(later - earlier), 2.0)
        middle = np.median(change)
        mad = np.median(np.abs(change - middle))
        raw |= (change > middle + settings.mad_scale * 1.4826 * mad).any(axis=-1)
    labels, _ = ndimage.label(raw)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0  # the background
    mask = np.zeros_like(raw)
    square = np.ones((settings.min_width, settings.min_width))
    for label in np.flatnonzero((sizes > settings.min_area) & (sizes < settings.max_area)):
        region = labels == label
        if ndimage.binary_erosion(region, square).any():
            mask |= region
    return mask


def frames_with_artifact(side: int, count: int, channels: int = 3, squares: int = 1) -> np.ndarray:
    """Predictions of a calm run with noise and squares that jump and then stall, uint8 [N,H,W,C].

    One square is large and jumps in the middle; many are small and jump at any step.
    """
    rng = np.random.default_rng(0)
    base = ndimage.gaussian_filter(rng.normal(size=(side, side, channels)), (side / 16, side / 16, 0)) * side * 2 + 128
    places = [(side // 3, side // 3, side // 2 - side // 3, count // 2)]
    if squares > 1:
        small = max(6, side // 24)
        corners = rng.integers(0, side - small, (squares, 2)).tolist()
        places = [(top, left, small, 1 + n % (count - 1)) for n, (top, left) in enumerate(corners)]
    frames = []
    for step in range(count):
        frame = base + rng.normal(size=base.shape) * 4
        for top, left, size, jump in places:
            if step >= jump:
                frame[top : top + size, left : left + size] += 60
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def windows(sides: list[int], count: int) -> list[Window]:
    """Pictures of these sides, and a latent."""
    pictures = [Window(f"{side} px", many, many) for side in sides for many in [_many(side, 3, count)]]
    side, channels = LATENT
    levels = _many(side, channels, count)
    signal = (torch.from_numpy(levels).movedim(-1, 1).contiguous().float() + 0.5) / 127.5 - 1  # truncates to the levels
    return [*pictures, Window(f"latent {side}×{side}×{channels}", levels, signal)]


def _many(side: int, channels: int, count: int) -> np.ndarray:
    return frames_with_artifact(side, count, channels, MANY)


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
    base = side if mode == "reference" else BASE
    return core.DetectionSettings(mode=mode, max_area=base * base // 2)


def calls_of(core: ModuleType, window: Window) -> dict[str, Call]:
    """Detection in each mode by a version of ``asced_core``."""
    return {mode: partial(core.detect, window.signal, settings_of(core, mode, window.side)) for mode in MODES}


def further_calls(window: Window) -> dict[str, Call]:
    """Detection by a taught network, here with random weights, and the run score of one prediction."""
    height, width, channels = window.frames.shape[1:]
    learned = Learned(FaultNet(channels, stride=stride_for(height, width)).eval())
    predicted = torch.from_numpy(window.frames[-1:]).movedim(-1, 1).contiguous().float() / 127.5 - 1
    return {
        TAUGHT: partial(asced_core.detect, window.signal, DetectionSettings(mode=LEARNED), learned),
        SCORE: partial(run_score, predicted),
    }


def run_score(predicted: Tensor) -> Any:
    """The run score of a prediction [1,C,H,W]."""
    reader = ScoreReader(steps=1)
    reader.observe(0, predicted)
    return reader.scores()


def timed(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of CPU time of each call in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            begin = time.process_time()
            calls[name]()
            seconds[name].append(time.process_time() - begin)
    return seconds


def measured(window: Window, rounds: int, other: ModuleType | None) -> dict[str, float]:
    """The figures of one row: ``NAME, ms``; ``scipy / NAME``; and ``other / this, MODE``.

    Raises:
        SystemExit: mode ``reference`` and the scipy version disagree.
    """
    ours, before = calls_of(asced_core, window), calls_of(other, window) if other else {}
    plain = partial(plain_detect, window.frames, settings_of(asced_core, "reference", window.side))
    masks = {mode: call().mask for mode, call in ours.items()}  # also warms up
    if not np.array_equal(masks["reference"], plain()):
        raise SystemExit(f"{window.name}: reference and the scipy version disagree, so the timing means nothing.")
    for mode, call in before.items():
        if not np.array_equal(masks[mode], call().mask):
            print(f"Note: the other checkout finds a different mask in mode {mode}, {window.name}.")
    ours |= further_calls(window)
    for call in ours.values():
        call()
    seconds = timed({SCIPY: plain, **ours, **{f"other {mode}": call for mode, call in before.items()}}, rounds)

    def ratio(upper: str, lower: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[upper], seconds[lower], strict=True))

    row = {f"{name}, ms": 1000 * statistics.median(values) for name, values in seconds.items()}
    row |= {f"{SCIPY} / {name}": ratio(SCIPY, name) for name in ours}
    return row | {f"other / this, {mode}": ratio(f"other {mode}", mode) for mode in before}


def machine() -> str:
    """The processor, and what does the arithmetic."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    processor = next(names, platform.processor() or platform.machine())
    vectors = torch.backends.cpu.get_cpu_capability()
    versions = f"torch {torch.__version__}, NumPy {np.__version__}, OpenCV {cv2.__version__}"
    return f"{processor} ({vectors}), Python {platform.python_version()}, {versions}"


def as_markdown(result: dict[str, Any]) -> str:
    """The tables of ratios and of milliseconds."""
    rows: dict[str, dict[str, float]] = result["rows"]
    lines = [
        "# Speed of detection", "",
        f"Written by `python -m benchmarks.detector --write`: {result['frames']} predictions with {MANY} squares that "
        f"jump, one CPU thread, CPU time, medians of {result['rounds']} rounds. *scipy* is the authors' arithmetic "
        "written with scipy and numpy; its mask equals that of `reference` in every pixel. *taught* is a taught "
        "detector, here with random weights; *run score* reads one prediction.", "", result["machine"], "",
        "How many times as fast as scipy, within a round:", "",
        f"| | {' | '.join(COLUMNS)} |", f"|---{'|---' * len(COLUMNS)}|",
    ]  # fmt: skip
    lines += [
        f"| {name} | " + " | ".join(f"{row[f'{SCIPY} / {one}']:.1f}" for one in COLUMNS) + " |"
        for name, row in rows.items()
    ]
    named = (SCIPY, *COLUMNS)
    lines += ["", "Milliseconds:", "", f"| | {' | '.join(named)} |", f"|---{'|---' * len(named)}|"]
    lines += [
        f"| {name} | " + " | ".join(f"{row[f'{one}, ms']:.2f}" for one in named) + " |" for name, row in rows.items()
    ]
    lines += [
        "", "Other figures: [each correction, and a detailer's arithmetic](cost.md), [drafts against full runs]"
        "(draft_cost.md), [long and large runs, and the live preview](scaling.md), [runs on a GPU](speed-gpu.md), "
        "[what the pack adds to ComfyUI's start and page](footprint.md). `make bench` writes all but the last two.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), help="image sides in pixels")
    parser.add_argument("--frames", type=int, default=8, help="predictions in the window")
    parser.add_argument("--rounds", type=int, default=7, help="figures are medians over the rounds")
    parser.add_argument("--against", type=Path, metavar="PATH", help="another checkout to time in the same rounds")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/speed.md and speed.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    other = core_of(args.against.resolve()) if args.against else None
    rows = {}
    for window in windows(args.sides, args.frames):
        rows[window.name] = row = measured(window, args.rounds, other)
        print(f"{window.name}: " + ", ".join(f"{name} {value:.2f}" for name, value in row.items()), flush=True)
    result = {"machine": machine(), "frames": args.frames, "rounds": args.rounds, "rows": rows}
    text = as_markdown(result)
    print(text)
    if args.write:
        (DOCS / "speed.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (DOCS / "speed.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
