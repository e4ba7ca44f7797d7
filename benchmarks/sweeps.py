"""ASCED with one setting changed at a time, chosen on even seeds and reported on odd ones: ``make bench``.

The paper's Fig. 8 and 11 (timing of the correction), and gamma, k, T_d, x0 source and rounds. Writes
docs/benchmarks/sweeps.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Plot

from benchmarks.methods import DEFAULTS, ORIGINAL, SETTINGS, SWEEPS, setting_name
from benchmarks.table1 import DOCS, Made, evaluate, made

FULL, QUICK = 128, 32
HALVES = {"choosing": 0, "reporting": 1}
SHOWN = ("stray", "malformed", "images_changed")
JUDGED_BY = {"early": "stray", "final": "malformed"}
PLOTTED = {"end_percent": 0.50, "start_percent": 0.20, "mad_scale": 3.0, "gamma": 0.0}  # and their defaults


def half(data: Made, odd: int) -> Made:
    """The images with even or with odd seeds; their digits are all ten in both."""
    out = {}
    for name, row in data.items():
        keep = (row["seeds"] // 10) % 2 == odd
        out[name] = {key: values[keep] if len(values) == len(keep) else values for key, values in row.items()}
    return out


def measure(bed: str, images: int, address: str | None) -> dict[str, Any]:
    """Both halves of a bed."""
    data = made(bed, images, list(SETTINGS), address)
    return {name: evaluate(half(data, odd), distances=False) for name, odd in HALVES.items()}


def chosen(result: dict[str, Any], sweep: str) -> str:
    """The setting with the least stray pieces on the early bed and malformed hands on the final one, choosing half."""

    def badness(name: str) -> float:
        return float(sum(result[bed]["choosing"][name][label]["value"] for bed, label in JUDGED_BY.items()))

    return min([DEFAULTS, *map(setting_name, SWEEPS[sweep])], key=badness)


def plot(result: dict[str, Any]) -> None:
    """Each swept number against the share of bad images, both halves together, with intervals."""
    figure = Plot(figsize=(11, 5.5), layout="constrained")
    for row, (bed, label) in enumerate(JUDGED_BY.items()):
        for column, (sweep, default) in enumerate(PLOTTED.items()):
            axes = figure.add_subplot(2, len(PLOTTED), row * len(PLOTTED) + column + 1)
            points = sorted([(default, DEFAULTS)] + [(float(s[sweep]), setting_name(s)) for s in SWEEPS[sweep]])
            for name, marker in (("choosing", "o"), ("reporting", "s")):
                rows = [result[bed][name][key][label] for _, key in points]
                values = np.array([[r["value"], r["low"], r["high"]] for r in rows]) * 100
                spread = np.abs(values[:, 1:] - values[:, :1]).T
                xs = [x for x, _ in points]
                axes.errorbar(xs, values[:, 0], spread, marker=marker, capsize=2, label=f"{name} half")
                axes.axhline(result[bed][name][ORIGINAL][label]["value"] * 100, ls=":", color="grey")
            axes.set_xlabel(sweep)
            axes.set_ylabel(f"{label}, % ({bed} weights)")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(DOCS / "sweeps.png", dpi=90)


def as_markdown(result: dict[str, Any], images: int) -> str:
    """Both beds, the reporting half."""
    lines = [
        "# Settings",
        "",
        f"Written by `make bench`: {images} seeds of each bed, one setting changed at a time. *Best* is the setting "
        "with the fewest bad images on the choosing half (stray pieces with the early weights plus malformed hands "
        "with the final ones); all figures are those of the reporting half, with the 95 % interval of a bootstrap.",
        "",
        "![](sweeps.png)",
        "",
        "| setting | early: stray, % | early: changed | final: malformed, % | final: changed | |",
        "|---" * 6 + "|",
    ]
    best = {chosen(result, sweep) for sweep in SWEEPS}
    for name in [ORIGINAL, DEFAULTS, *(setting_name(s) for settings in SWEEPS.values() for s in settings)]:
        cells = []
        for bed, label in JUDGED_BY.items():
            row = result[bed]["reporting"][name]
            bad = row[label]
            cells.append(f"{bad['value'] * 100:.1f} ({bad['low'] * 100:.1f} … {bad['high'] * 100:.1f})")
            cells.append(f"{row['images_changed']['value']:.0%}")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {'best of its sweep' if name in best else ''} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=FULL, help="seeds of each bed")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images of each bed, printed and not written")
    parser.add_argument("--address", help="of a running Ray cluster")
    args = parser.parse_args()
    DOCS.mkdir(parents=True, exist_ok=True)
    images = QUICK if args.quick else args.images
    result = {bed: measure(bed, images, args.address) for bed in JUDGED_BY}
    text = as_markdown(result, images)
    print(text)
    if args.quick:
        return
    plot(result)
    kept = {
        bed: {h: {n: {k: r[k] for k in SHOWN} for n, r in t.items()} for h, t in b.items()} for bed, b in result.items()
    }
    (DOCS / "sweeps.json").write_text(json.dumps({"images": images, "beds": kept}, indent=1) + "\n", encoding="utf-8")
    (DOCS / "sweeps.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
