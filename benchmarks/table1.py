"""Table 1: every correction on the same seeds: ``make bench`` (or ``make bench-quick`` for 128 images a bed).

Writes docs/benchmarks/table1.json, table1.md and a picture for each bed. An interrupted run goes on where it was; the
images lie in output/bench.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from asced_core.overlay import contact_sheet
from benchmarks.farm import collect, load
from benchmarks.hands import BEDS
from benchmarks.judges import PRESENT, WEIGHTS, describe, landmark_file, presence, stray_components
from benchmarks.quality import Figure, compare, paired_change, rate

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "benchmarks"
OUT = ROOT / "output" / "bench"
FULL, QUICK = 2048, 128
ORIGINAL = "original"
SHOWN = 10
STEPS = 25


def measure(bed: str, images: int, address: str | None, draw: bool) -> dict[str, Any]:
    """All columns of a bed, by method; ``draw`` writes its picture to the docs."""
    data = load(collect(bed, images, OUT / bed, address))
    if draw:
        picture(bed, data)
    return {"images": images, "methods": evaluate(data)}


def evaluate(data: dict[str, Any], distances: bool = True) -> dict[str, dict[str, Any]]:
    """All columns by method, of chunks that were loaded; ``distances`` need more images than features."""
    names = [name.removesuffix("/images") for name in data if name.endswith("/images")]
    features, right, bad, stray = {}, {}, {}, {}
    landmarks = landmark_file(OUT / "models")
    for name in names:
        pictures = data[f"{name}/images"]
        seen, digits = describe(pictures)
        features[name], right[name] = seen.astype(np.float64), digits == data["labels"]
        bad[name] = presence(pictures, landmarks) < PRESENT
        stray[name] = np.array([bool(stray_components(picture)) for picture in pictures])
    table: dict[str, dict[str, Any]] = {name: {} for name in names}
    if distances:
        real = np.load(WEIGHTS / "real.npz", allow_pickle=False)["features"].astype(np.float64)
        for name, row in compare(real, features, ORIGINAL).items():
            table[name].update(row)
    count = len(data["seeds"])
    model = float(np.mean(data["model_seconds"]))
    for name in names:
        row = table[name]
        calls = STEPS + data[f"{name}/calls"].sum() / count
        row |= {
            "label_accuracy": rate(right[name]),
            "malformed": rate(bad[name]),
            "malformed_change": paired_change(bad[ORIGINAL], bad[name]),
            "stray": rate(stray[name]),
            "stray_change": paired_change(stray[ORIGINAL], stray[name]),
            "stray_new": rate(stray[name][~stray[ORIGINAL]]),
            "images_changed": rate(data[f"{name}/corrected"]),
        }
        extra: dict[str, Any] = {
            "calls": round(float(calls), 2),
            "seconds": round(float(data[f"{name}/seconds"].sum() / count), 4),
        }
        row |= extra | {"model_seconds": round(model * float(calls), 4)}
    return {name: _plain(row) for name, row in table.items()}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) if isinstance(value, Figure) else value for name, value in row.items()}


def picture(bed: str, data: dict[str, Any]) -> None:
    """The first images that ASCED changed, a row for each method."""
    import cv2

    chosen = np.flatnonzero(data["ASCED/corrected"])[:SHOWN]
    names = [name.removesuffix("/images") for name in data if name.endswith("/images")]
    tiles = [
        cv2.resize(data[f"{name}/images"][i], (96, 96), interpolation=cv2.INTER_CUBIC) for name in names for i in chosen
    ]
    sheet = contact_sheet(tiles, columns=len(chosen))
    cv2.imwrite(str(DOCS / f"table1-{bed}.jpg"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


def _cell(value: dict[str, float], scale: float = 1, digits: int = 3) -> str:
    low, high = value["low"] * scale, value["high"] * scale
    return f"{value['value'] * scale:.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


def as_markdown(result: dict[str, Any]) -> str:
    """The tables of all beds."""
    lines = [
        "# Every correction on the same seeds",
        "",
        "Written by `make bench`. DDIM, 25 steps, no guidance, one CPU thread a worker; in brackets the 95 % interval "
        "of a bootstrap over seeds. FID, precision and recall are those of a small feature network of our own: they "
        "compare rows of one table, never with other papers. *Malformed*: MediaPipe's presence of a hand below 0.9. "
        "*Stray*: a piece of foreground that is not joined to the hand. *Supervised* is a small detector trained on "
        "planted artifacts; it stands in for PAL, whose weights are its authors'. What to make of it: "
        "[findings](../findings.md).",
    ]
    for bed, part in result.items():
        lines += [
            "",
            f"## Bed {bed}: {part['images']} images",
            "",
            "| method | FID | FID / original | precision | recall | right digit, % | malformed, % | change, points "
            "| stray, % | change, points | new stray in clean, % | images changed, % | model calls | own seconds "
            "| model seconds |",
            "|---" * 15 + "|",
        ]
        for name, row in part["methods"].items():
            cells = [_cell(row[key]) for key in ("fid", "fid_ratio", "precision", "recall")]
            cells += [
                _cell(row[key], 100, 1)
                for key in ("label_accuracy", "malformed", "malformed_change", "stray", "stray_change", "stray_new")
            ]
            cells += [f"{row['images_changed']['value']:.0%}", f"{row['calls']:.1f}"]
            cells += [f"{row['seconds']:.4f}", f"{row['model_seconds']:.3f}"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += [
            "",
            f"Rows as in the table, the first {SHOWN} images that ASCED changed:",
            "",
            f"![](table1-{bed}.jpg)",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=FULL, help="seeds of each bed")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images of each bed, printed and not written")
    parser.add_argument("--beds", nargs="+", choices=list(BEDS), default=list(BEDS))
    parser.add_argument("--address", help="of a running Ray cluster")
    args = parser.parse_args()
    DOCS.mkdir(parents=True, exist_ok=True)
    images = QUICK if args.quick else args.images
    result = {bed: measure(bed, images, args.address, not args.quick) for bed in args.beds}
    text = as_markdown(result)
    if args.quick:
        print(text)
        return
    (DOCS / "table1.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (DOCS / "table1.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
