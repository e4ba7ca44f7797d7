"""Where in an object a fault sits: ``python -m benchmarks.place``, part of ``make bench``.

A prior at the picture's center already finds faults, because hands are there. So a detector's place is measured within
the hand, next to that prior and to chance. Writes docs/benchmarks/place.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from asced_core import DetectionSettings
from asced_core.detect.lasting import LastingChange
from asced_core.detect.memory import WindowMemory
from asced_core.maps import BoolMap
from asced_core.teach import Taught
from asced_core.teach.training import probabilities
from benchmarks.confidence import judged, window_and_after
from benchmarks.detection_sets import HALVES, boxed, recordings
from benchmarks.detection_signals import REFERENCE, uncut
from benchmarks.hands import HandSampler, to_uint8
from benchmarks.judges import foreground
from benchmarks.methods import one_thread
from benchmarks.quality import Figure, figure
from benchmarks.table1 import DOCS
from benchmarks.teach_files import taught_file

QUICK = 40  # images
RESAMPLES = 500
Maps = NDArray[np.float32]


def lasting(frames: Tensor) -> Maps:
    """The lasting change of frames [N,B,C,H,W], of which the last is that of T_c; modes strict and robust."""
    shape = tuple(frames.shape[1:])
    detector = LastingChange(DetectionSettings(base_size=256), shape, frames.device)  # type: ignore[arg-type]
    for frame in frames[:-1]:
        detector.push(frame)
    share: Maps = detector.share().numpy()
    return share


def taught(file: Path) -> Callable[[Tensor], Maps]:
    """What a taught detector says."""
    network = Taught.load(file).network

    def maps(frames: Tensor) -> Maps:
        memory = WindowMemory()
        for frame in frames:
            memory.push(frame)
        return probabilities(network, torch.stack(memory.three(), 1))

    return maps


def centered(frames: Tensor) -> Maps:
    """The prior: the closer to the picture's center, the higher."""
    height, width = frames.shape[-2:]
    y, x = np.mgrid[:height, :width]
    near = -np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5).astype(np.float32)
    return np.broadcast_to(near, (frames.shape[1], height, width))


def hand_of(image: NDArray[np.uint8]) -> BoolMap:
    """The largest piece of foreground; everything if there is none."""
    found = cv2.connectedComponentsWithStats(foreground(image), connectivity=8)
    labels, stats = np.asarray(found[1]), np.asarray(found[2])
    if len(stats) < 2:
        return np.ones(labels.shape, bool)
    hand: BoolMap = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return hand


def row(maps: Maps, hands: BoolMap, boxes: BoolMap) -> tuple[Figure, Figure]:
    """Share of images whose strongest point within the hand lies in the box, and AUROC of the cells of a hand."""
    strongest = [np.where(hand, own, -np.inf).argmax() for own, hand in zip(maps, hands, strict=True)]
    hits = np.array([box.ravel()[place] for box, place in zip(boxes, strongest, strict=True)], float)
    mixed = [i for i, (hand, box) in enumerate(zip(hands, boxes, strict=True)) if 0 < box[hand].mean() < 1]
    areas = np.array([roc_auc_score(boxes[i][hands[i]], maps[i][hands[i]]) for i in mixed])
    return _mean(hits), _mean(areas)


def _mean(values: NDArray[np.float64]) -> Figure:
    rng = np.random.default_rng(0)
    return figure(values.mean(), [rng.choice(values, len(values)).mean() for _ in range(RESAMPLES)])


def measure(half: str, images: int | None) -> dict[str, tuple[Figure, Figure] | Figure]:
    """The figures of every detector on the faulty images of one half; of chance, the box's share of the hand."""
    seeds, boxes = judged(half)
    faulty = [i for i, own in enumerate(boxes) if own][:images]
    sampler = HandSampler("final")
    runs = list(recordings(sampler, [seeds[i] for i in faulty]))
    frames = window_and_after(sampler, runs)
    hands = np.stack([hand_of(image) for run in runs for image in to_uint8(run.images)])
    truth = boxed([boxes[i] for i in faulty], hands.shape[-1])
    detectors: dict[str, Callable[[Tensor], Maps]] = {
        "prior at the picture's center": centered,
        "strict, robust": lasting,
        "reference": lambda frames: uncut(frames[:-1], REFERENCE),
        "taught by runs": taught(taught_file("final")),
    }
    if (pictures := taught_file("final", pictures=True)).is_file():
        detectors["taught by pictures"] = taught(pictures)
    table: dict[str, tuple[Figure, Figure] | Figure] = {
        "chance": _mean(np.array([(hand & box).sum() / hand.sum() for hand, box in zip(hands, truth, strict=True)]))
    }
    return table | {name: row(maps(frames), hands, truth) for name, maps in detectors.items()}


def as_markdown(table: dict[str, tuple[Figure, Figure] | Figure]) -> str:
    """The table."""
    lines = [
        "# Where in the hand a fault sits",
        "",
        "Written by `make bench`: final hand model, images judged faulty by eye, reporting half. *Strongest point*: "
        "how often a detector's highest value within the hand lies in the judge's box; chance is the box's share of "
        "the hand. *AUROC*: of the cells inside the box against the rest of the hand, mean over images.",
        "",
        "| detector | strongest point in the box | AUROC within the hand |",
        "|---|---|---|",
    ]
    for name, own in table.items():
        cells = [own, "–"] if isinstance(own, Figure) else list(own)
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images; leave docs unchanged")
    args = parser.parse_args()
    one_thread()
    text = as_markdown(measure(HALVES[1], QUICK if args.quick else None))
    print(text)
    if not args.quick:
        (DOCS / "place.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
