"""Table 1, every correction on the same seeds: ``make bench``, or ``make bench-quick`` for 32 images per test set.

Writes docs/benchmarks/table1.json, table1.md and one picture per test set. An interrupted run resumes where it
stopped; the images are kept in output/bench.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asced_core.draw.overlay import contact_sheet
from benchmarks.farm import CHUNK, collect, load
from benchmarks.hands import TEST_SETS, available_test_sets
from benchmarks.judges import PRESENT, WEIGHTS, describe, landmark_file, presence, stray_components
from benchmarks.methods import ORIGINAL, TABLE, rows_of
from benchmarks.quality import Figure, compare, paired_change, rate

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "benchmarks"
OUT = ROOT / "output" / "bench"
FULL, QUICK = {"early": 2048, "final": 2048, "latent": 512}, 32
SHOWN = 10
MOSTLY = 0.9  # share of malformed images from which on that says nothing about an image
STEPS = 25
Made = dict[str, dict[str, Any]]  # results of the farm, by method


def made(test_set: str, images: int, names: Sequence[str], address: str | None) -> Made:
    """The results of some methods on a test set, run now or kept from before."""
    return {name: load(files) for name, files in collect(test_set, images, OUT / test_set, names, address).items()}


def judge(data: Made) -> dict[str, dict[str, NDArray[Any]]]:
    """The verdict on each image, by method; images that a method left unchanged are judged only once."""
    stock = _verdicts(data[ORIGINAL]["images"], data[ORIGINAL]["labels"])
    out = {}
    for name, row in data.items():
        new = row["corrected"] if name != ORIGINAL else np.zeros(len(row["seeds"]), bool)
        own = _verdicts(row["images"][new], row["labels"][new]) if new.any() else {}
        out[name] = {column: values.copy() for column, values in stock.items()}
        for column, values in own.items():
            out[name][column][new] = values
    return out


def _verdicts(images: NDArray[np.uint8], labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    features, digits = describe(images)
    return {
        "features": features.astype(np.float64),
        "right": digits == labels,
        "malformed": presence(images, landmark_file(OUT / "models")) < PRESENT,
        "stray": np.array([bool(stray_components(image)) for image in images]),
    }


def evaluate(data: Made, distances: bool = True) -> dict[str, dict[str, Any]]:
    """All columns, by method; ``distances`` need more images than there are features."""
    verdicts = judge(data)
    table: dict[str, dict[str, Any]] = {name: {} for name in data}
    if distances:
        real = np.load(WEIGHTS / "real.npz", allow_pickle=False)["features"].astype(np.float64)
        for name, row in compare(real, {n: v["features"] for n, v in verdicts.items()}, ORIGINAL).items():
            table[name].update(row)
    stock = verdicts[ORIGINAL]
    good = stock["right"] & ~stock["stray"]
    if stock["malformed"].mean() < MOSTLY:
        good &= ~stock["malformed"]
    for name, own in verdicts.items():
        table[name] |= {
            "label_accuracy": rate(own["right"]),
            "malformed": rate(own["malformed"]),
            "malformed_change": paired_change(stock["malformed"], own["malformed"]),
            "stray": rate(own["stray"]),
            "stray_change": paired_change(stock["stray"], own["stray"]),
            "stray_new": rate(own["stray"][~stock["stray"]]),
            "images_changed": rate(data[name]["corrected"]),
            "good_changed": rate(data[name]["corrected"][good]),
        }
        table[name]["calls"] = round(float(STEPS + data[name]["calls"].sum() / len(data[name]["seeds"])), 2)
    return {name: _plain(row) for name, row in table.items()}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) if isinstance(value, Figure) else value for name, value in row.items()}


def picture(test_set: str, data: Made) -> None:
    """The first images that ASCED changed, one row per method in the order of the table."""
    import cv2

    data = {name: data[name] for name in TABLE if name in data}
    chosen = np.flatnonzero(data["ASCED robust"]["corrected"])[:SHOWN]
    tiles = [
        cv2.resize(row["images"][i], (96, 96), interpolation=cv2.INTER_CUBIC) for row in data.values() for i in chosen
    ]
    sheet = contact_sheet(tiles, columns=len(chosen))
    path = DOCS / f"table1-{test_set}.jpg"
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


def _cell(value: dict[str, float], scale: float = 1, digits: int = 3) -> str:
    low, high = value["low"] * scale, value["high"] * scale
    return f"{value['value'] * scale:.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


def as_markdown(result: dict[str, Any]) -> str:
    """The tables of all test sets."""
    lines = [
        "# Every correction on the same seeds",
        "",
        "Written by `make bench`. DDIM, 25 steps, no guidance; the 95 % interval of a bootstrap over seeds is in "
        "parentheses. State replacement and score clipping act on what the authors' detector "
        "finds, so compare them with *ASCED reference*. BayesDiff's map is thresholded like ASCED's and corrected by "
        "TTC. *Supervised* is a small detector trained on planted artifacts; it stands in for PAL, whose weights are "
        "not included. FID, precision and recall use a small feature network trained for these tables: compare "
        "rows within one table, never with other papers. *Malformed*: MediaPipe's hand presence is below 0.9. "
        "*Stray*: a piece of foreground that is not connected to the hand. *Good images*: right digit, no stray piece, "
        "and not malformed (which says nothing about the early test set). *Taught* detectors mark 33 % (few) or 67 % "
        "(many) of the held-out runs that they were taught with; redo samples the regions again from T_d on. "
        "Discussion: [findings](../findings.md).",
    ]
    for test_set, part in result.items():
        lines += [
            "",
            f"## Test set {test_set}: {part['images']} images",
            "",
            "| method | FID | FID / original | precision | recall | right digit, % | malformed, % | change, points "
            "| stray, % | change, points | new stray in clean, % | images changed, % | good images changed, % "
            "| model calls |",
            "|---" * 14 + "|",
        ]
        for name, row in part["methods"].items():
            cells = [_cell(row[key]) for key in ("fid", "fid_ratio", "precision", "recall")]
            cells += [
                _cell(row[key], 100, 1)
                for key in ("label_accuracy", "malformed", "malformed_change", "stray", "stray_change", "stray_new")
            ]
            good = f"{row['good_changed']['value']:.0%}" if "good_changed" in row else "–"
            cells += [f"{row['images_changed']['value']:.0%}", good, f"{row['calls']:.1f}"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        if test_set not in TEST_SETS:
            continue  # it has no picture
        lines += [
            "",
            f"The first {SHOWN} images that ASCED changed, one row per method in the order of the table:",
            "",
            f"![](table1-{test_set}.jpg)",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help=f"seeds per test set, a multiple of {CHUNK}; default {FULL}")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images per test set; leave docs unchanged")
    parser.add_argument("--test-sets", nargs="+", choices=list(TEST_SETS), default=available_test_sets())
    parser.add_argument("--methods", nargs="+", choices=list(TABLE), help="only make the images of these methods")
    parser.add_argument("--rows", nargs="+", choices=list(TABLE), help="measure only these; keep the others' figures")
    parser.add_argument("--address", help="of a running Ray cluster")
    args = parser.parse_args()
    DOCS.mkdir(parents=True, exist_ok=True)
    result = json.loads((DOCS / "table1.json").read_text(encoding="utf-8")) if args.rows else {}
    for test_set in args.test_sets:
        images = QUICK if args.quick else args.images or FULL[test_set]
        if args.methods:
            collect(test_set, images, OUT / test_set, args.methods, args.address)
            continue
        names = dict.fromkeys([ORIGINAL, *args.rows]) if args.rows else rows_of(test_set)
        data = made(test_set, images, list(names), args.address)
        key = test_set if images in (FULL[test_set], QUICK) else f"{test_set}, {images} seeds"
        rows = {**result.get(key, {"methods": {}})["methods"], **evaluate(data)} if args.rows else evaluate(data)
        result[key] = {"images": images, "methods": {name: rows[name] for name in TABLE if name in rows}}
        if not args.quick and key == test_set:  # of all rows, those that were kept, too
            picture(test_set, made(test_set, QUICK, list(rows), args.address))
    if args.methods:
        return
    text = as_markdown(result)
    if args.quick:
        print(text)
        return
    (DOCS / "table1.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (DOCS / "table1.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
