"""What a judge thought of the marks of the modes strict and robust: a part of docs/benchmarks/confidence.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from asced_core import DetectionSettings, detect
from asced_core.draw.overlay import COLORS, contact_sheet, draw_overlay
from asced_core.maps import Picture, resize_mask
from benchmarks.hands import HandSampler, record, to_uint8
from benchmarks.quality import rate
from benchmarks.table1 import DOCS

FILE = Path(__file__).parent / "judged_overlays.json"
MODES = ("strict", "robust")
COLUMNS, LARGE, SHOWN = 8, 256, 160


def verdicts() -> list[dict[str, Any]]:
    """Seed, mode, verdict on the image, and a verdict on each mark, strongest first."""
    overlays: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["overlays"]
    return overlays


def as_markdown() -> list[str]:
    """The judge's verdicts by mode."""
    lines = [
        "",
        "## Judged blind",
        "",
        "48 overlays of the final hand model, half of them of mode `strict` (the default) and half of `robust`, mixed; "
        "the judge said of each mark whether it would have made it, too "
        "([protocol and verdicts](../../benchmarks/judged_overlays.json)).",
        "",
        "| mode | images | marks | the judge would have made |",
        "|---|---|---|---|",
    ]
    for mode in MODES:
        own = [overlay["marks"] for overlay in verdicts() if overlay["mode"] == mode]
        marks = np.array([mark for marks in own for mark in marks], bool)
        lines.append(f"| {mode} | {len(own)} | {len(marks)} | {marks.sum()}: {rate(marks)} |")
    return [
        *lines,
        "",
        "Three rows of `strict`, then three of `robust`; green: the judge would have made the mark, too.",
        "",
        "![](overlays.jpg)",
    ]


def picture() -> None:
    """Writes docs/benchmarks/overlays.jpg."""
    tiles = [tile for mode in MODES for tile in _tiles(mode)]
    sheet = contact_sheet(tiles, columns=COLUMNS)
    cv2.imwrite(
        str(DOCS / "overlays.jpg"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )  # fmt: skip


def _tiles(mode: str) -> list[Picture]:
    sampler, settings = HandSampler("final"), DetectionSettings(mode=mode, base_size=256)
    own = [overlay for overlay in verdicts() if overlay["mode"] == mode]
    run = record(sampler, [overlay["seed"] for overlay in own])
    frames = torch.stack([run.predictions[step] for step in sampler.watched(settings)], 1)
    tiles = []
    for image, seen, overlay in zip(to_uint8(run.images), frames, own, strict=True):
        found = detect(seen, settings)
        tile: Picture = np.asarray(cv2.resize(image, (LARGE, LARGE), interpolation=cv2.INTER_CUBIC), np.uint8)
        for number, right in enumerate(overlay["marks"], 1):
            mask = resize_mask(found.labels == number, LARGE, LARGE)
            color = COLORS["green" if right else "vermilion"]
            tile = draw_overlay(tile, mask, style="outline", color=color)
        tiles.append(np.asarray(cv2.resize(tile, (SHOWN, SHOWN), interpolation=cv2.INTER_AREA), np.uint8))
    return tiles
