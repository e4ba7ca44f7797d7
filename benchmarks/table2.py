"""Table 2, which systems find artifacts: ``python -m benchmarks.table2``, part of ``make bench``.

Test sets: two sets of images judged by eye (judged.json and judged_by_class.json), and planted artifacts with a known
mask, in three contrasts and three sizes. Image scores are uncut, and rank images of one class only, because the class
alone tells much of the verdict. The trained detector and the rules see the final image; ASCED sees the run. Writes
docs/benchmarks/table2.json and table2.md.
"""

from __future__ import annotations

import argparse
import json
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
from asced_core.maps import BoolMap
from benchmarks.detection_signals import uncut
from benchmarks.hands import SIDE, HandSampler, Recording, record, to_uint8
from benchmarks.judges import WEIGHTS, as_tensor, stray_components
from benchmarks.methods import DETECTION
from benchmarks.quality import figure, rate
from benchmarks.ranking import ranking
from benchmarks.uncertainty import abnormal_cells, uncertainty_at
from demo.hand_unet import CLASSES

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
MODES = ("robust", "reference", "paper")
FIRST_SET, BY_CLASS = "judged.json", "judged_by_class.json"
CONTRASTS, SIZES = {"low": 0.15, "middle": 0.4, "high": 1.0}, {"small": 3, "middle": 6, "large": 10}
PLANTED, QUICK = 96, 4
JUDGED, JUDGED_QUICK = {FIRST_SET: 100, BY_CLASS: 150}, 12  # images with and without an artifact, each
FIRST = 20000  # first seed of the planted runs
RESAMPLES = 500
TITLES = {
    FIRST_SET: "{0} images with an artifact and {0} without, judged by eye",
    BY_CLASS: "{0} images with an artifact and {0} without, as many of each digit, judged by eye within the digit",
}
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


def by_eye(sampler: HandSampler, file: str, each: int) -> dict[str, Any]:
    """Accuracy on at most ``each`` images with and without an artifact, the share of boxes touched, and the ranking."""
    judged = json.loads((Path(__file__).parent / file).read_text(encoding="utf-8"))
    boxes = {entry["seed"]: entry["box"] for entry in judged["artifact"][:each]}
    seeds = [*boxes, *judged["clean"][:each]]
    systems: dict[str, list[Seen]] = {}
    for start in range(0, len(seeds), 40):
        for name, seen in seen_by_all(sampler, record(sampler, seeds[start : start + 40])).items():
            systems.setdefault(name, []).append(seen)
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


def seen_by_all(sampler: HandSampler, run: Recording) -> dict[str, Seen]:
    """Masks [B,64,64] and uncut image scores [B] by every system; the score is the marked area if there is no other."""
    final = to_uint8(run.images)
    watched = {mode: watch(sampler, run, mode) for mode in MODES}
    masks = {f"ASCED {mode}": np.stack([d.mask for d in found]) for mode, found in watched.items()}
    masks["supervised, final image"] = PALDetector.load(WEIGHTS / "supervised.pt")(as_tensor(final))
    masks["stray components, final image"] = np.stack([_strays(image) for image in final])
    seen = {name: (mask, mask.mean((1, 2)).astype(np.float64)) for name, mask in masks.items()}
    seen["ASCED robust, by its marked area"] = seen["ASCED robust"]
    for mode in MODES:
        seen[f"ASCED {mode}"] = masks[f"ASCED {mode}"], _mean_signal(sampler, run, mode)
    uncertain = uncertainty_at(sampler, run, len(sampler.timesteps))
    seen["BayesDiff, whole run"] = abnormal_cells(uncertain, DETECTION), uncertain.mean((1, 2)).double().numpy()
    return seen


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


def by_planting(sampler: HandSampler, images: int) -> dict[str, Any]:
    """IoU, share of artifacts found, and AUROC over pixels, by contrast and size."""
    run = record(sampler, list(range(FIRST, FIRST + images)))
    table: dict[str, Any] = {}
    trained = PALDetector.load(WEIGHTS / "supervised.pt")
    for contrast, strength in CONTRASTS.items():
        for size, radius in SIZES.items():
            pairs = [plant(seed, strength, radius) for seed in run.seeds]
            truth, blobs = np.stack([mask for mask, _ in pairs]), [blob for _, blob in pairs]
            final = (run.images + torch.stack(blobs)).clamp(-1, 1)
            found = {f"ASCED {mode}": _watched(sampler, run, mode, blobs) for mode in MODES}
            marked = trained(final)
            found["supervised, final image"] = marked, marked.astype(np.float32)
            steps = sampler.watched(DETECTION)
            uncertain = uncertainty_at(sampler, run, steps[-1] + 1, torch.stack(blobs), steps[len(steps) // 2])
            found["BayesDiff, up to T_c"] = abnormal_cells(uncertain, DETECTION), uncertain.numpy()
            for name, (masks, scores) in found.items():
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


def _watched(
    sampler: HandSampler, run: Recording, mode: str, blobs: list[Tensor]
) -> tuple[BoolMap, NDArray[np.float32]]:
    found = watch(sampler, run, mode, blobs)
    return np.stack([d.mask for d in found]), np.stack([d.ratio for d in found])


def _cell(value: dict[str, float]) -> str:
    return f"{value['value']:.2f} ({value['low']:.2f} … {value['high']:.2f})"


def as_markdown(eyes: dict[str, Any], planted: dict[str, Any], images: int, judged: dict[str, int]) -> str:
    """All tables."""
    lines = [
        "# Which systems find artifacts",
        "",
        "Written by `make bench`; the 95 % interval of a bootstrap over images is in parentheses. *Supervised* is a "
        "small detector trained on planted artifacts; it stands in for PAL. Discussion: [findings](../findings.md).",
        "",
        "*AUROC* is the chance that of a bad and a good image **of one class** the bad one has the higher score; *AP* "
        "is the average precision within classes. The digit alone predicts the verdicts of the first set, so figures "
        "over all classes would flatter. Scores are uncut: a mode's is the mean over all cells of what it compares "
        "with its threshold, BayesDiff's its mean uncertainty; the trained detector and the rule have no score but "
        "their marked area.",
        "",
    ]
    for file, eye in eyes.items():
        lines += [
            f"## {TITLES[file].format(judged[file])}",
            "",
            f"Final weights. [{file}](../../benchmarks/{file}) holds seeds, verdicts, boxes and protocol.",
            "",
            "| system | accuracy of its flags | artifacts flagged | clean flagged | boxes touched | AUROC | AP |",
            "|---|---|---|---|---|---|---|",
        ]
        keys = ("accuracy", "found", "false_alarms", "boxes_hit", "auroc")
        lines += [
            f"| {name} | " + " | ".join(_cell(row[key]) for key in keys) + f" | {row['ap'] or 0:.2f} |"
            for name, row in eye.items()
        ]
        lines.append("")
    lines += [
        "## Planted artifacts",
        "",
        f"{images} images per cell. A patch of one color is added to the predictions from the middle of the window on, "
        "at half strength in its first step. Contrast low, middle, high: 0.15, 0.4, 1 on a scale of -1 to 1; radius "
        "small, middle, large: 3, 6, 10 of 64 pixels. Cells: IoU · share of patches at least half marked · AUROC over "
        "pixels. The trained detector sees the patch in the final image, BayesDiff in the states after its first step.",
        "",
    ]
    cells = list(next(iter(planted.values())))
    lines += ["| system | " + " | ".join(cells) + " |", "|---" * (len(cells) + 1) + "|"]
    for name, row in planted.items():
        text = [f"{row[c]['iou']['value']:.2f} · {row[c]['found']['value']:.0%} · {row[c]['auroc']:.2f}" for c in cells]
        lines.append(f"| {name} | " + " | ".join(text) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} planted images; leave docs unchanged")
    args = parser.parse_args()
    DOCS.mkdir(parents=True, exist_ok=True)
    sampler = HandSampler("final")
    images = QUICK if args.quick else PLANTED
    judged = {file: JUDGED_QUICK if args.quick else most for file, most in JUDGED.items()}
    eyes = {file: by_eye(sampler, file, judged[file]) for file in TITLES}
    planted = by_planting(sampler, images)
    text = as_markdown(eyes, planted, images, judged)
    print(text)
    if not args.quick:
        result = {"by_eye": eyes, "planted": planted, "planted_images": images}
        (DOCS / "table2.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (DOCS / "table2.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
