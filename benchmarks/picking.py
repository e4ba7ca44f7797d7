"""Which of several drafts of one prompt to finish: ``python -m benchmarks.picking [--quick] [--address HEAD:6379]``.

Settings were chosen on one half of the seeds and are reported on the other. Drafts are compared within a class only,
because the class alone predicts how often a hand is malformed. Takes an hour and a half on one core and resumes
where it was interrupted; the runs are kept in output/bench/picking. Writes docs/benchmarks/picking.json and picking.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.detection_signals import by_detector
from benchmarks.farm import CHUNK, collect, load
from benchmarks.hands import ROOT, available_test_sets
from benchmarks.picking_figures import coverage, kept, within
from benchmarks.picking_report import as_markdown
from benchmarks.picking_runs import (
    CORRECTED,
    FIRST,
    OUTCOMES,
    READS,
    Runs,
    judge,
    load_runs,
    real_features,
    record_halves,
    record_runs,
    sampler_of,
)
from benchmarks.picking_signals import (
    BATCH,
    DETECTION,
    READ,
    STEPS,
    Chooser,
    Parts,
    by_value,
    changes,
    choosers,
    parts_of,
)
from benchmarks.picking_varied import VARIATIONS, record_varied
from benchmarks.quality import compare, rate
from benchmarks.ranking import auroc, members, ranking

DOCS, OUT = ROOT / "docs" / "benchmarks", ROOT / "output" / "bench" / "picking"
FULL = {"early": 960, "final": 960, "latent": 960, "clothes": 960}  # of each half
QUICK = {"early": 32, "final": 32, "latent": 32, "clothes": 32}
VARIED, QUICK_VARIED = {"final": 128, "latent": 256}, {"latent": 32}
VARIED_SIZE = 4
SIZES = (4, 8)
PRICE = 3.05  # plain runs that a choice may cost
JUDGED = Path(__file__).resolve().parent / "judged_by_class.json"
Row = dict[str, Any]


def price(drafts: int, read: int, extra: int) -> float:
    """Plain runs that one kept image costs: all drafts to a step, ``extra`` calls on each, and one run's rest."""
    return (drafts * (read + 1 + extra) + STEPS - 1 - read) / STEPS


def affordable(read: int, extra: int) -> int:
    """The most drafts within PRICE."""
    return max(n for n in range(1, STEPS) if n == 1 or price(n, read, extra) <= PRICE)


def half_of(runs: Runs) -> Row:
    """How every signal ranks the images of a class, and what the best drafts of a few are like."""
    named = choosers(runs)
    values = {name: within(runs, chooser) for name, chooser in {**named, **_late(runs)}.items()}
    picked = {name: named[name] for name in ("marked area", "coarse sharpness", "sharpness", "agreement", "score")}
    return {
        "images": len(runs.labels),
        "ranking": {
            name: {outcome: ranking(v, bad, runs.labels) for outcome, bad in runs.verdicts.items()}
            for name, v in values.items()
        },
        "kept": {str(size): kept(runs, picked, size) for size in SIZES},
    }


def _late(runs: Runs) -> dict[str, Chooser]:
    """The signals of the lasting change at T_c."""
    end = sampler_of(runs.bed).watched(DETECTION)[-1] + 1
    return {f"{name}, at T_c": by_value(values) for name, values in changes(runs, end).items()}


def equal_compute(runs: Runs) -> dict[str, Row]:
    """Ways to spend about three plain runs on one image."""
    frames = torch.stack([runs.predictions[step] for step in sampler_of(runs.bed).watched(DETECTION)])
    find = by_detector(DETECTION)
    area = np.concatenate([find(part.float()).masks.mean((1, 2)) for part in frames.split(BATCH, 1)])
    named, table = parts_of(runs, READ).choosers(), {}

    def add(name: str, cost: float, size: int, choosing: dict[str, Chooser]) -> None:
        if rows := kept(runs, choosing, size):
            table[name] = {**rows[next(iter(choosing), "random")], "price": round(cost, 2)}

    add("one plain run", 1.0, 3, {})
    add("3 plain runs, least marked area kept", 3.0, 3, {"area": by_value(area)})
    known, paid = affordable(READ, 0), affordable(READ, 1)
    add(f"{known} drafts by sharpness", price(known, READ, 0), known, {"sharpness": named["sharpness"]})
    add(f"{paid} drafts by score", price(paid, READ, 1), paid, {"score": named["score"]})
    if runs.bed in CORRECTED:
        table["one run, corrected"] = _corrected(runs)
    return table


def _corrected(runs: Runs) -> Row:
    verdicts, features = judge(runs.bed, runs.files["corrected"], runs.labels)
    sets = {"random": runs.features, "corrected": features}
    rows = compare(runs.real, sets, "random")
    return {
        **{outcome: asdict(rate(bad)) for outcome, bad in verdicts.items()},
        "fid_ratio": asdict(rows["corrected"]["fid_ratio"]),
        "recall": rows["corrected"]["recall"].value,
        "recall_random": rows["random"]["recall"].value,
        "coverage": round(coverage(runs.bed, features), 3),
        "coverage_random": round(coverage(runs.bed, runs.features), 3),
        "price": round(float(1 + runs.files["corrected_calls"].mean() / STEPS), 2),
    }


def by_read(runs: Runs) -> dict[str, Row]:
    """The parts and the score of drafts that end at other steps, each with as many drafts as PRICE allows."""
    table = {}
    for read in READS:
        named, size = parts_of(runs, read).choosers(), affordable(read, 1)
        rows = kept(runs, {"score": named["score"]}, size)
        table[f"{(read + 1) / STEPS:.2f}"] = {
            **_aurocs(runs, named), "drafts": size, "price": round(price(size, read, 1), 2), "kept": rows.get("score")
        }  # fmt: skip
    return table


def _aurocs(runs: Runs, named: dict[str, Chooser]) -> Row:
    classes = members(runs.labels)
    return {
        name: {o: round(auroc(within(runs, named[name]), bad, classes), 3) for o, bad in runs.verdicts.items()}
        for name in ("sharpness", "agreement", "score")
    }


def varied(bed: str, images: int, address: str | None) -> dict[str, Row]:
    """The score with other samplers, step counts and guidance."""
    table = {}
    files = collect(bed, images, OUT / bed, list(VARIATIONS), address, record_varied)
    for name, chunks in files.items():
        data = load(chunks)
        verdicts, features = judge(bed, data["images"], data["labels"])
        runs = Runs(bed, data["labels"], {}, {}, verdicts, features, real_features(bed), {})
        now, earlier, unlabeled = (torch.from_numpy(data[key]) for key in ("now", "earlier", "unlabeled"))
        named = Parts.of(now, earlier, unlabeled, VARIATIONS[name].guidance).choosers()
        if VARIATIONS[name].guidance != 1:  # then the nodes read no agreement
            named["score"] = named["sharpness"]
        rows = kept(runs, {"score": named["score"]}, VARIED_SIZE)
        table[name] = {**_aurocs(runs, named), "random": rows.get("random"), "kept": rows.get("score")}
    return table


def by_eye() -> Row:
    """How every signal ranks the images of the final test set that were judged by eye within each class.

    Once over all of them, and once without the images on the rarer gray background, most of which are bad.
    """
    verdicts = json.loads(JUDGED.read_text(encoding="utf-8"))
    bad = {entry["seed"] for entry in verdicts["artifact"]}
    seeds = sorted(bad | set(verdicts["clean"]))
    chunks = []
    for start in range(0, len(seeds), BATCH):
        file = OUT / "judged" / f"{len(seeds)}-{start:06d}.npz"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(record_runs("final", seeds[start : start + BATCH]))
        chunks.append(file)
    runs, flags = load_runs("final", chunks), np.isin(seeds, list(bad))
    plain = ~np.isin(seeds, verdicts["gray_background"])
    rows = {}
    for name, chooser in {**choosers(runs), **_late(runs)}.items():
        values = within(runs, chooser)
        rows[name] = {
            "all": ranking(values, flags, runs.labels),
            "usual background": ranking(values[plain], flags[plain], runs.labels[plain]),
        }
    return {"images": len(seeds), "bad": asdict(rate(flags)), "ranking": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help=f"seeds of each half, a multiple of {CHUNK}; default {FULL}")
    parser.add_argument("--quick", action="store_true", help="few images; leave docs unchanged")
    parser.add_argument("--address", help="of a running Ray cluster")
    args = parser.parse_args()
    beds = [bed for bed in OUTCOMES if bed in (*available_test_sets(), "clothes")]
    result: Row = {half: {} for half in FIRST} | {"equal_compute": {}, "by_read": {}, "varied": {}}
    for bed in beds:
        images = QUICK[bed] if args.quick else args.images or FULL[bed]
        files = collect(bed, images, OUT / bed, list(FIRST), args.address, record_halves)
        for half in FIRST:
            runs = load_runs(bed, files[half])
            result[half][bed] = half_of(runs)
            if half == "choosing":
                result["by_read"][bed] = by_read(runs)
            else:
                result["equal_compute"][bed] = equal_compute(runs)
    for bed, images in (QUICK_VARIED if args.quick else VARIED).items():
        if bed in beds:
            result["varied"][bed] = {"images": images, "rows": varied(bed, images, args.address)}
    if JUDGED.is_file() and not args.quick:
        result["by_eye"] = by_eye()
    text = as_markdown(result)
    print(text)
    if not args.quick:
        DOCS.mkdir(parents=True, exist_ok=True)
        (DOCS / "picking.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (DOCS / "picking.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
