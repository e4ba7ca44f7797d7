"""ASCED with one setting changed at a time, chosen on one half of the seeds and reported on the other: ``make bench``.

The paper's Fig. 8 and 11 (timing of the correction), and gamma, k, T_d and the x0 source. Writes
docs/benchmarks/sweeps.json, sweeps.md and sweeps.png.
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
PLOTTED = {"end_percent": 0.50, "start_percent": 0.20, "mad_scale": 3.0, "gamma": 0.0}  # with the default values


def half(data: Made, odd: int) -> Made:
    """One half of the images: blocks of ten seeds alternate, so both halves hold all ten digits."""
    out = {}
    for name, row in data.items():
        keep = (row["seeds"] // 10) % 2 == odd
        out[name] = {key: values[keep] if len(values) == len(keep) else values for key, values in row.items()}
    return out


def measure(test_set: str, images: int, address: str | None) -> dict[str, Any]:
    """The figures of both halves of a test set."""
    data = made(test_set, images, list(SETTINGS), address)
    return {name: evaluate(half(data, odd), distances=False) for name, odd in HALVES.items()}


def chosen(result: dict[str, Any], sweep: str) -> str:
    """The setting with the fewest bad images on the choosing half, summed over the test sets of JUDGED_BY."""

    def badness(name: str) -> float:
        return float(sum(result[test_set]["choosing"][name][label]["value"] for test_set, label in JUDGED_BY.items()))

    return min([DEFAULTS, *map(setting_name, SWEEPS[sweep])], key=badness)


def plot(result: dict[str, Any]) -> None:
    """The share of bad images for each value of the swept settings, in both halves, with intervals."""
    figure = Plot(figsize=(11, 5.5), layout="constrained")
    for row, (test_set, label) in enumerate(JUDGED_BY.items()):
        for column, (sweep, default) in enumerate(PLOTTED.items()):
            axes = figure.add_subplot(2, len(PLOTTED), row * len(PLOTTED) + column + 1)
            points = sorted([(default, DEFAULTS)] + [(float(s[sweep]), setting_name(s)) for s in SWEEPS[sweep]])
            for name, marker in (("choosing", "o"), ("reporting", "s")):
                rows = [result[test_set][name][key][label] for _, key in points]
                values = np.array([[r["value"], r["low"], r["high"]] for r in rows]) * 100
                spread = np.abs(values[:, 1:] - values[:, :1]).T
                xs = [x for x, _ in points]
                axes.errorbar(xs, values[:, 0], spread, marker=marker, capsize=2, label=f"{name} half")
                axes.axhline(result[test_set][name][ORIGINAL][label]["value"] * 100, ls=":", color="gray")
            axes.set_xlabel(sweep)
            axes.set_ylabel(f"{label}, % ({test_set} weights)")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(DOCS / "sweeps.png", dpi=90)


def as_markdown(result: dict[str, Any], images: int) -> str:
    """The reporting half of both test sets."""
    lines = [
        "# Settings",
        "",
        f"Written by `make bench`: {images} seeds per test set, one setting changed at a time. All figures are for the "
        "reporting half of the seeds; the 95 % interval of a bootstrap is in parentheses. *Best* is the setting with "
        "the fewest bad images on the choosing half: stray pieces with the early weights plus malformed hands with the "
        "final weights.",
        "",
        "A second round of detection and correction, *rounds 2*, was measured as well. It changed no image, so the "
        "setting was removed.",
        "",
        "![](sweeps.png)",
        "",
        "| setting | early: stray, % | early: changed | final: malformed, % | final: changed | |",
        "|---" * 6 + "|",
    ]
    best = {chosen(result, sweep) for sweep in SWEEPS}
    for name in [ORIGINAL, DEFAULTS, *(setting_name(s) for settings in SWEEPS.values() for s in settings)]:
        cells = []
        for test_set, label in JUDGED_BY.items():
            row = result[test_set]["reporting"][name]
            bad = row[label]
            cells.append(f"{bad['value'] * 100:.1f} ({bad['low'] * 100:.1f} … {bad['high'] * 100:.1f})")
            cells.append(f"{row['images_changed']['value']:.0%}")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {'best of its sweep' if name in best else ''} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=FULL, help="seeds per test set")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images per test set; leave docs unchanged")
    parser.add_argument("--address", help="of a running Ray cluster")
    args = parser.parse_args()
    DOCS.mkdir(parents=True, exist_ok=True)
    images = QUICK if args.quick else args.images
    result = {test_set: measure(test_set, images, args.address) for test_set in JUDGED_BY}
    text = as_markdown(result, images)
    print(text)
    if args.quick:
        return
    plot(result)
    kept = {
        test_set: {h: {n: {k: r[k] for k in SHOWN} for n, r in t.items()} for h, t in halves.items()}
        for test_set, halves in result.items()
    }
    figures = json.dumps({"images": images, "test_sets": kept}, indent=1) + "\n"
    (DOCS / "sweeps.json").write_text(figures, encoding="utf-8")
    (DOCS / "sweeps.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
