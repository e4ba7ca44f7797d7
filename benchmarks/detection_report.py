"""The tables and the picture of detection.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from asced_core.draw.overlay import contact_sheet
from benchmarks.detection_sets import recordings, seeds_of, window, with_patches
from benchmarks.detection_signals import SETTINGS, SIGNALS
from benchmarks.hands import HandSampler, to_uint8
from benchmarks.pictures import draw

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
SHOWN = 8
CONTRAST, RADIUS = 0.15, 6  # of the patches in the picture


def _cell(value: dict[str, float]) -> str:
    return f"{value['value']:.2f} ({value['low']:.2f} … {value['high']:.2f})"


def _table(title: str, note: str, columns: dict[str, str], rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["", f"## {title}", "", note, "", "| signal | " + " | ".join(columns.values()) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        cells = [_cell(row[key]) if isinstance(row[key], dict) else str(row[key]) for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _by_image(row: dict[str, Any]) -> dict[str, Any]:
    columns = {"by area": row["by_area"], "by mean": row["by_mean"]}
    return {name: one["auroc"] for name, one in columns.items()} | {f"ap {n}": one["ap"] for n, one in columns.items()}


def _planted(rows: dict[str, dict[str, Any]]) -> list[str]:
    keys = list(next(iter(rows.values())))
    lines = []
    for domain in ("hands", "clothes"):
        for kind in ("lasting", "passing"):
            prefix = f"{domain}, {kind}, "
            cells = [key for key in keys if key.startswith(prefix)]
            lines += ["", f"**{domain.capitalize()}, patches that {'stay' if kind == 'lasting' else 'vanish'}**", ""]
            lines.append("| signal | " + " | ".join(c.removeprefix(prefix) for c in cells) + " |")
            lines.append("|---" * (len(cells) + 1) + "|")
            for name, row in rows.items():
                text = [f"{row[c]['iou']:.2f} · {row[c]['found']['value']:.0%} · {row[c]['auroc']:.2f}" for c in cells]
                lines.append(f"| {name} | " + " | ".join(text) + " |")
    return lines


def as_markdown(result: dict[str, Any]) -> str:
    """All tables, for the reporting half."""
    half = "reporting"
    lines = [
        "# Signals for finding artifacts",
        "",
        "Written by `python -m benchmarks.detection`. All figures are for the reporting half of the seeds; the 95 % "
        "interval of a bootstrap over images is in parentheses. Discussion: [detection](../detection.md).",
    ]
    lines += _table(
        "Stray pieces",
        "Early weights. AUROC and average precision over the pixels of images with a piece; share of pieces whose peak "
        "exceeds the maxima of all but 0.5 % of the clean images; share of pieces touched by a region; share of clean "
        "images with a region; extra model calls per image.",
        {"auroc": "AUROC", "ap": "AP", "recall_at_0.5%": "recall at 0.5 % clean", "touched": "pieces touched",
         "clean_flagged": "clean flagged", "calls": "calls"},
        result["strays"][half],
    )  # fmt: skip
    lines += _table(
        "Judged by eye",
        "Final weights. *AUROC of place*: cells inside the judge's box against all others, averaged over images. AUROC "
        "and average precision of the image, bad against good images of the same digit: *by area* marked, and *by "
        "mean* of the uncut map.",
        {"accuracy": "accuracy", "found": "artifacts flagged", "false_alarms": "clean flagged",
         "boxes_touched": "boxes touched", "auroc_place": "AUROC of place", "by area": "AUROC by area",
         "ap by area": "AP by area", "by mean": "AUROC by mean", "ap by mean": "AP by mean"},
        {name: row | _by_image(row) for name, row in result["judged"][half].items()},
    )  # fmt: skip
    lines += ["", "## Planted patches", "", "IoU · share of patches at least half marked · AUROC over pixels."]
    lines += _planted(result["planted"][half])
    lines += _table(
        "A given share of marked images",
        "The threshold for each share is learned on the choosing half without labels, as in ASCED Calibrate. Then: the "
        "share of new images marked, of planted patches of middle contrast and size found, and of the judge's boxes "
        "touched.",
        {
            "threshold": "threshold",
            "marked": "new images marked",
            "patches_found": "patches found",
            "boxes_touched": "boxes touched",
        },
        {f"{name}, {share}": row for name, rows in result["named_share"][half].items() for share, row in rows.items()},
    )
    for name, part in result["corrected"][half].items():
        lines += _table(
            f"After TTC, {name} weights",
            f"Share of {part['label']} images; *new*: among images that were clean before.",
            {"before": "before", "after": "after", "ratio": "after / before", "new": "new", "flagged": "flagged",
             "area": "area"},
            part["rows"],
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def picture() -> None:
    """docs/benchmarks/detection.jpg: faint patches found and missed, and places marked in images without a patch."""
    sampler, seeds = HandSampler("final"), seeds_of("reporting", 4 * SHOWN)
    rows: dict[str, list[np.ndarray]] = {"found": [], "missed": [], "false alarm": []}
    for run in recordings(sampler, seeds):
        frames = window(sampler, run, SETTINGS)
        truth = with_patches(frames, run.seeds, CONTRAST, RADIUS, lasting=True)
        patched, plain = (SIGNALS["robust"](f).masks for f in (truth.frames, frames))
        images = to_uint8(truth.frames[-1]), to_uint8(frames[-1])
        for i, mask in enumerate(truth.masks):
            ys, xs = np.nonzero(mask)
            box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
            found = (patched[i] & mask).sum() > 0.5 * mask.sum()
            rows["found" if found else "missed"].append(draw(images[0][i], patched[i], box))
            if plain[i].any():
                rows["false alarm"].append(draw(images[1][i], plain[i], None))
    blank = np.full_like(rows["found"][0], 255)
    tiles = [tile for row in rows.values() for tile in (row + [blank] * SHOWN)[:SHOWN]]
    sheet = cv2.cvtColor(contact_sheet(tiles, columns=SHOWN), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(DOCS / "detection.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
