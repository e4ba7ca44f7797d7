"""Compares signals and rules for finding artifacts: ``python -m benchmarks.detection [--quick]``.

Test sets: stray pieces, images judged by eye, planted patches that stay and planted patches that vanish again. Then TTC
corrects what the best signals mark. Settings are chosen on one half of the seeds and reported on the other. Finished
parts are kept in output/bench/detection and not run again; ``--part`` runs a single one. Writes
docs/benchmarks/detection.json, detection.md and detection.jpg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from asced_core.maps import BoolMap, dilate
from asced_core.report.calibration import LOWEST, Calibration, first_marks
from benchmarks.detection_corrected import corrected
from benchmarks.detection_report import DOCS, as_markdown, picture
from benchmarks.detection_sets import (
    HALVES,
    ClothesSampler,
    boxed,
    judged,
    one_signed,
    recordings,
    seeds_of,
    strays,
    window,
    with_patches,
)
from benchmarks.detection_signals import SETTINGS, SIGNALS, Found, by_detector, calibrated, evidence_in, verification
from benchmarks.hands import ROOT, HandSampler, Recording
from benchmarks.methods import one_thread
from benchmarks.quality import rate
from benchmarks.ranking import ranking
from benchmarks.table2 import CONTRASTS, SIZES
from demo.hand_unet import CLASSES

OUT = ROOT / "output" / "bench" / "detection"
IMAGES, QUICK = {"choosing": 96, "reporting": 192}, {"choosing": 20, "reporting": 40}
PATCHES, QUICK_PATCHES = 48, 8
FALSE_IMAGES = 0.005
NEAR = 1  # cells around a box that still count as touched
SHARES = (0.05, 0.2, 0.5)  # of images to be marked
Row = dict[str, Any]


def joined(found: list[Found]) -> Found:
    """Several batches as one."""
    return Found(np.concatenate([f.scores for f in found]), np.concatenate([f.masks for f in found]), found[0].calls)


def touched(masks: BoolMap, boxes: list[list[tuple[int, int, int, int]]]) -> NDArray[np.bool_]:
    """For each box of all images, whether a mask touches it."""
    grown = [dilate(mask, NEAR) for mask in masks]
    return np.array(
        [boxed([[box]], len(m))[0][m].any() for m, inside in zip(grown, boxes, strict=True) for box in inside]
    )


def stray_pieces(half: str, images: int) -> dict[str, Row]:
    """Every signal on the early test set, and two that need more: verification and calibration."""
    sampler, sampled = HandSampler("early"), seeds_of(half, images)
    found: dict[str, list[Found]] = {}
    boxes: list[list[tuple[int, int, int, int]]] = []
    for run in recordings(sampler, sampled):
        frames = window(sampler, run, SETTINGS)
        boxes += strays(run)
        for name, signal in SIGNALS.items():
            found.setdefault(name, []).append(signal(frames))
        found.setdefault("re-noised and predicted again", []).append(_verified(sampler, run))
    everything = {name: joined(parts) for name, parts in found.items()}
    lasting = everything["net change"].scores
    bad = np.array([bool(b) for b in boxes])
    everything["net change, calibrated by cell"] = calibrated(lasting, lasting[::2])  # uses no labels
    truth = boxed(boxes, lasting.shape[-1])
    table = {}
    for name, one in everything.items():
        hits = touched(one.masks, boxes)
        limit = np.quantile(one.scores[~bad].max((1, 2)), 1 - FALSE_IMAGES)
        peaks = np.array([s[boxed([[b]], len(s))[0]].max() for s, i in zip(one.scores, boxes, strict=True) for b in i])
        table[name] = {
            "auroc": round(float(roc_auc_score(truth[bad].ravel(), one.scores[bad].ravel())), 3),
            "ap": round(float(average_precision_score(truth[bad].ravel(), one.scores[bad].ravel())), 3),
            "recall_at_0.5%": asdict(rate(peaks > limit)),
            "touched": asdict(rate(hits)),
            "clean_flagged": asdict(rate(one.masks[~bad].any((1, 2)))),
            "calls": one.calls,
        }
    return table


@torch.inference_mode()
def _verified(sampler: HandSampler, run: Recording) -> Found:
    step = sampler.watched(SETTINGS)[-1] + 1
    return verification(
        lambda x: sampler.denoise(x, step, run.labels), sampler.sigmas[step], run.predictions[step]
    )  # fmt: skip


def by_eye(half: str, _: int) -> dict[str, Row]:
    """Every signal on the images judged by eye; images are ranked within a class only."""
    seeds, boxes = judged(half)
    sampler = HandSampler("final")
    frames = [window(sampler, run, SETTINGS) for run in recordings(sampler, seeds)]
    bad, labels = np.array([bool(b) for b in boxes]), np.array(seeds) % CLASSES
    inside = boxed(boxes, 64)
    table = {}
    for name, signal in SIGNALS.items():
        one = joined([signal(part) for part in frames])
        area = one.masks.mean((1, 2))
        flags = area > 0
        places = [roc_auc_score(inside[i].ravel(), one.scores[i].ravel()) for i in np.flatnonzero(bad)]
        table[name] = {
            "accuracy": asdict(rate(flags == bad)),
            "found": asdict(rate(flags[bad])),
            "false_alarms": asdict(rate(flags[~bad])),
            "boxes_touched": asdict(rate(touched(one.masks, boxes))),
            "auroc_place": round(float(np.mean(places)), 3),
            "by_area": ranking(area.astype(np.float64), bad, labels),
            "by_mean": ranking(one.scores.mean((1, 2)).astype(np.float64), bad, labels),
        }
    return table


def planted(half: str, patches: int) -> dict[str, Row]:
    """Every signal on planted patches that stay or vanish again, in both image domains."""
    table: dict[str, Row] = {name: {} for name in SIGNALS}
    for domain, sampler in (("hands", HandSampler("final")), ("clothes", ClothesSampler())):
        seeds = seeds_of(half, patches)
        frames = torch.cat([window(sampler, run, SETTINGS) for run in recordings(sampler, seeds)], dim=1)
        for contrast, strength in CONTRASTS.items():
            for size, radius in SIZES.items():
                for lasting in (True, False):
                    truth = with_patches(frames, seeds, strength, radius, lasting)
                    gray = one_signed(seeds, strength, radius)
                    for name, signal in SIGNALS.items():
                        found = signal(truth.frames)
                        kind = "lasting" if lasting else "passing"
                        table[name][f"{domain}, {kind}, {contrast}, {size}"] = _overlap(found, truth.masks, gray)
    return table


def _overlap(found: Found, masks: BoolMap, gray: NDArray[np.bool_]) -> Row:
    both, either = (found.masks & masks).sum((1, 2)), (found.masks | masks).sum((1, 2))
    marked = both / masks.sum((1, 2)) > 0.5
    return {
        "iou": round(float((both / either.clip(1)).mean()), 3),
        "found": asdict(rate(marked)),
        "found_one_signed": round(float(marked[gray].mean()), 3) if gray.any() else None,
        "auroc": round(float(roc_auc_score(masks.ravel(), found.scores.ravel())), 3),
    }


def named_share(half: str, images: int) -> dict[str, dict[str, Row]]:
    """Thresholds that mark a given share of the images, learned on the choosing half without labels."""
    sets = {"early": HandSampler("early"), "final": HandSampler("final"), "clothes": ClothesSampler()}
    return {name: _shares(sampler, half, images) for name, sampler in sets.items()}


def _shares(sampler: HandSampler, half: str, images: int) -> dict[str, Row]:
    lowest = replace(SETTINGS, mad_scale=LOWEST)

    def first(frames: torch.Tensor) -> NDArray[np.float32]:
        return first_marks(evidence_in(frames, lowest).ratio.numpy(), lowest)

    runs = recordings(sampler, seeds_of(HALVES[0], images))
    learned = Calibration(np.concatenate([first(window(sampler, run, SETTINGS)) for run in runs]), {})
    seeds = seeds_of(half, images)
    frames = torch.cat([window(sampler, run, SETTINGS) for run in recordings(sampler, seeds)], dim=1)
    truth = with_patches(frames, seeds, CONTRASTS["middle"], SIZES["middle"], True)
    fresh = first(frames)
    judged_seeds, boxes = judged(half) if sampler.test_set == "final" else ([], [])
    judged_frames = [window(sampler, run, SETTINGS) for run in recordings(sampler, judged_seeds)]
    table = {}
    for share in SHARES:
        threshold = learned.threshold(share)
        at_threshold = by_detector(replace(SETTINGS, mad_scale=threshold))
        found = at_threshold(truth.frames)
        patched = (found.masks & truth.masks).sum((1, 2)) > 0.5 * truth.masks.sum((1, 2))
        table[f"{share:.0%}"] = {
            "threshold": round(threshold, 2),
            "marked": asdict(rate(fresh > threshold)),
            "patches_found": asdict(rate(patched)),
            "boxes_touched": asdict(rate(touched(joined([at_threshold(f) for f in judged_frames]).masks, boxes)))
            if judged_frames
            else "–",
        }
    return table


PARTS: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "strays": stray_pieces, "judged": by_eye, "planted": planted, "named_share": named_share, "corrected": corrected,
}  # fmt: skip


def measure(part: str, quick: bool) -> dict[str, Any]:
    """Runs a part on both halves, or only on the reporting half, unless its file exists already."""
    file = OUT / f"{part}{'-quick' if quick else ''}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    images = QUICK if quick else IMAGES
    patches = QUICK_PATCHES if quick else PATCHES
    halves = HALVES[1:] if part in ("corrected", "named_share") else HALVES
    result = {half: PARTS[part](half, patches if part == "planted" else images[half]) for half in halves}
    OUT.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use few images and leave docs unchanged")
    parser.add_argument("--part", choices=list(PARTS), help="run only this part and keep its figures")
    args = parser.parse_args()
    one_thread()
    if args.part:
        measure(args.part, args.quick)
        return
    result = {part: measure(part, args.quick) for part in PARTS}
    text = as_markdown(result)
    print(text)
    if args.quick:
        return
    picture()
    (DOCS / "detection.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (DOCS / "detection.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
