"""Table 2, which systems find artifacts: ``python -m benchmarks.table2``, part of ``make bench``.

Test sets: two sets of images judged by eye (judged.json and judged_by_class.json), and planted artifacts with a known
mask, in three contrasts and three sizes. Image scores are uncut, and rank images of one class only, because the class
alone tells much of the verdict. The trained detector and the rules see the final image; ASCED sees the run. Writes
docs/benchmarks/table2.json and table2.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from asced_core import Detection, DetectionSettings, detect
from asced_core.baselines.pal import PALDetector
from asced_core.detect.detection import find_in
from asced_core.detect.learned import LearnedDetector
from asced_core.maps import BoolMap
from asced_core.teach import Taught
from benchmarks.detection_signals import uncut
from benchmarks.hands import SIDE, HandSampler, Recording, record, to_uint8
from benchmarks.judges import WEIGHTS, as_tensor, stray_components
from benchmarks.methods import DETECTION, FEW, MANY
from benchmarks.quality import figure, rate
from benchmarks.ranking import ranking
from benchmarks.table2_report import BY_CLASS, FIRST_SET, TITLES, as_markdown
from benchmarks.teach_files import taught_file
from benchmarks.uncertainty import abnormal_cells, uncertainty_at
from demo.hand_unet import CLASSES

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
MODES = ("strict", "robust", "reference", "paper")
TAUGHT = {"taught, few": FEW, "taught, many": MANY}  # share of images that it marks
CONTRASTS, SIZES = {"low": 0.15, "middle": 0.4, "high": 1.0}, {"small": 3, "middle": 6, "large": 10}
PLANTED, QUICK = 96, 4
JUDGED, JUDGED_QUICK = {FIRST_SET: 100, BY_CLASS: 150}, 12  # images with and without an artifact, each
FIRST = 20000  # first seed of the planted runs
RESAMPLES = 500
Seen = tuple[BoolMap, NDArray[np.float64]]
Ellipse = tuple[NDArray[np.bool_], Tensor]


def watch(sampler: HandSampler, run: Recording, mode: str, planted: list[Tensor] | None = None) -> list[Detection]:
    """What a mode finds in each image of a run; ``planted`` is added to the predictions from mid-window on."""
    settings = DetectionSettings(mode=mode, base_size=256)
    steps = sampler.watched(settings)
    found = []
    for i in range(len(run.seeds)):
        frames = []
        for step in steps:
            frame = run.predictions[step][i]
            if planted is not None:  # half of it in one step, all of it in the next, as artifacts form
                frame = frame + planted[i] * min(1.0, max(0, step - steps[len(steps) // 2] + 1) / 2)
            frames.append(frame - run.states[step][i] if mode == "paper" else frame)  # w s = x0 - x, at alpha = 1
        found.append(detect(torch.stack(frames), settings))
    return found


def plant(seed: int, contrast: float, radius: int) -> Ellipse:
    """An ellipse of one color: its mask [64,64], and its image [3,64,64] in the units of predictions."""
    rng = np.random.default_rng((FIRST, seed, radius))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    center = rng.integers(16, 48, 2)
    axes = (radius, max(2, round(radius * float(rng.uniform(0.6, 1)))))
    cv2.ellipse(mask, tuple(map(int, center)), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    color = rng.choice([-1.0, 1.0], 3) * contrast
    return mask.astype(bool), torch.tensor(color, dtype=torch.float32).view(3, 1, 1) * torch.from_numpy(mask)


def by_eye(sampler: HandSampler, file: str, each: int, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy on at most ``each`` images with and without an artifact, the share of boxes touched, and the ranking."""
    judged = json.loads((Path(__file__).parent / file).read_text(encoding="utf-8"))
    boxes = {entry["seed"]: entry["box"] for entry in judged["artifact"][:each]}
    seeds = [*boxes, *judged["clean"][:each]]
    systems: dict[str, list[Seen]] = {name: [] for name in names}
    for start in range(0, len(seeds), 40):
        run = record(sampler, seeds[start : start + 40])
        for name in names:
            systems[name].append(seen_by(name, sampler, run))
    truth, labels = np.array([seed in boxes for seed in seeds]), np.array(seeds) % CLASSES
    table = {}
    for name, parts in systems.items():
        masks, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
        flags: BoolMap = np.array([mask.any() for mask in masks])
        hits = np.array([masks[i, b[1] : b[3], b[0] : b[2]].any() for i, b in enumerate(boxes.values())])
        table[name] = {
            "accuracy": asdict(rate(flags == truth)),
            "found": asdict(rate(flags[truth])),
            "false_alarms": asdict(rate(flags[~truth])),
            "boxes_hit": asdict(rate(hits)),
            "box_share": round(float(np.mean([(b[2] - b[0]) * (b[3] - b[1]) / SIDE**2 for b in boxes.values()])), 3),
            **ranking(scores, truth, labels),
        }
    return table


def seen_by(name: str, sampler: HandSampler, run: Recording) -> Seen:
    """Masks [B,64,64] and uncut image scores [B] by one of SYSTEMS; without another score, it is the marked area."""
    mode = name.removeprefix("ASCED ").partition(",")[0]
    if mode in MODES:
        masks = np.stack([d.mask for d in watch(sampler, run, mode)])
        by_area = name.endswith("marked area")
        return masks, _area(masks) if by_area else _mean_signal(sampler, run, mode)
    if name in TAUGHT:
        masks, probability = taught(sampler, run, TAUGHT[name])
        return masks, probability.mean((1, 2)).astype(np.float64)
    if name.startswith("BayesDiff"):
        uncertain = uncertainty_at(sampler, run, len(sampler.timesteps))
        return abnormal_cells(uncertain, DETECTION), uncertain.mean((1, 2)).double().numpy()
    final = to_uint8(run.images)
    if name.startswith("supervised"):
        masks = PALDetector.load(WEIGHTS / "supervised.pt")(as_tensor(final))
    else:
        masks = np.stack([_strays(image) for image in final])
    return masks, _area(masks)


def _area(masks: BoolMap) -> NDArray[np.float64]:
    return masks.mean((1, 2)).astype(np.float64)


SYSTEMS = (
    "ASCED strict", "ASCED robust", "ASCED reference", "ASCED paper", "taught, few", "taught, many",
    "supervised, final image", "stray components, final image", "ASCED robust, by its marked area",
    "BayesDiff, whole run",
)  # fmt: skip


def taught(
    sampler: HandSampler, run: Recording, share: float, planted: list[Tensor] | None = None
) -> tuple[BoolMap, NDArray[np.float32]]:
    """Masks and probabilities [B,H,W] of the taught detector; ``planted`` as for ``watch``."""
    detector = Taught.load(taught_file(sampler.test_set))
    settings = detector.applied(DETECTION, share)
    shape: Any = tuple(run.predictions[0].shape)
    learned, steps = LearnedDetector(settings, shape, torch.device("cpu"), detector.learned), sampler.watched(settings)
    for step in range(steps[0], steps[-1] + 2):
        frame = run.predictions[step]
        if planted is not None:
            frame = frame + torch.stack(planted) * min(1.0, max(0, step - steps[len(steps) // 2] + 1) / 2)
        learned.push(frame)
    ratio, none = learned.result().ratio.numpy(), np.zeros(0, np.float32)
    return np.stack([find_in(own, none, settings).mask for own in ratio]), learned.probability().numpy()


def _mean_signal(sampler: HandSampler, run: Recording, mode: str) -> NDArray[np.float64]:
    """The mean over all cells of what a mode compares with its threshold, [B]; no cell is left out."""
    settings = DetectionSettings(mode=mode, base_size=256)
    values = [
        run.predictions[step] - run.states[step] if mode == "paper" else run.predictions[step]
        for step in sampler.watched(settings)
    ]
    return uncut(torch.stack(values), settings).mean((1, 2)).astype(np.float64)


def _strays(image: NDArray[np.uint8]) -> BoolMap:
    mask = np.zeros((SIDE, SIDE), bool)
    for left, top, right, bottom in stray_components(image):
        mask[top:bottom, left:right] = True
    return mask


def by_planting(sampler: HandSampler, images: int, names: Sequence[str]) -> dict[str, Any]:
    """IoU, share of artifacts found, and AUROC over pixels, by contrast and size."""
    run = record(sampler, list(range(FIRST, FIRST + images)))
    table: dict[str, Any] = {}
    for contrast, strength in CONTRASTS.items():
        for size, radius in SIZES.items():
            pairs = [plant(seed, strength, radius) for seed in run.seeds]
            truth, blobs = np.stack([mask for mask, _ in pairs]), [blob for _, blob in pairs]
            for name in names:
                masks, scores = planted_seen_by(name, sampler, run, blobs)
                both, either = (masks & truth).sum((1, 2)), (masks | truth).sum((1, 2))
                ious = both / either
                rng = np.random.default_rng(0)
                drawn = [float(rng.choice(ious, len(ious)).mean()) for _ in range(RESAMPLES)]
                table.setdefault(name, {})[f"{contrast}, {size}"] = {
                    "iou": asdict(figure(float(ious.mean()), drawn)),
                    "found": asdict(rate(both / truth.sum((1, 2)) > 0.5)),
                    "auroc": round(float(roc_auc_score(truth.ravel(), scores.ravel())), 3),
                }
    return table


PLANTED_SYSTEMS = (*SYSTEMS[:7], "BayesDiff, up to T_c")


def planted_seen_by(
    name: str, sampler: HandSampler, run: Recording, blobs: list[Tensor]
) -> tuple[BoolMap, NDArray[np.float32]]:
    """Masks and scores of the cells, [B,64,64], by one of PLANTED_SYSTEMS."""
    mode = name.removeprefix("ASCED ")
    if mode in MODES:
        found = watch(sampler, run, mode, blobs)
        return np.stack([d.mask for d in found]), np.stack([d.ratio for d in found])
    if name in TAUGHT:
        return taught(sampler, run, TAUGHT[name], blobs)
    if name.startswith("BayesDiff"):
        steps = sampler.watched(DETECTION)
        uncertain = uncertainty_at(sampler, run, steps[-1] + 1, torch.stack(blobs), steps[len(steps) // 2])
        return abnormal_cells(uncertain, DETECTION), uncertain.numpy()
    marked = PALDetector.load(WEIGHTS / "supervised.pt")((run.images + torch.stack(blobs)).clamp(-1, 1))
    return marked, marked.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} planted images; leave docs unchanged")
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=[*SYSTEMS, PLANTED_SYSTEMS[-1]],
        help="measure only these; keep the others' figures",
    )
    args = parser.parse_args()
    DOCS.mkdir(parents=True, exist_ok=True)
    sampler, file = HandSampler("final"), DOCS / "table2.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if args.rows else {"by_eye": {}, "planted": {}}
    images = QUICK if args.quick else PLANTED
    judged = {name: JUDGED_QUICK if args.quick else most for name, most in JUDGED.items()}
    names, planted_names = ([n for n in own if not args.rows or n in args.rows] for own in (SYSTEMS, PLANTED_SYSTEMS))
    eyes = {
        name: _ordered(SYSTEMS, kept["by_eye"].get(name, {}), by_eye(sampler, name, judged[name], names))
        for name in TITLES
    }  # fmt: skip
    planted = _ordered(PLANTED_SYSTEMS, kept["planted"], by_planting(sampler, images, planted_names))
    text = as_markdown(eyes, planted, images, judged)
    print(text)
    if not args.quick:
        result = {"by_eye": eyes, "planted": planted, "planted_images": images}
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (DOCS / "table2.md").write_text(text, encoding="utf-8")


def _ordered(names: Sequence[str], kept: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    both = {**kept, **new}
    return {name: both[name] for name in names if name in both}


if __name__ == "__main__":
    main()
