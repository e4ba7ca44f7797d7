"""Hits, misses and false alarms of mode ``robust`` on the images judged by eye: docs/benchmarks/judged.jpg."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from asced_core.draw.overlay import contact_sheet
from benchmarks.hands import HandSampler, record, to_uint8
from benchmarks.table1 import DOCS
from benchmarks.table2 import watch

EACH, SIDE = 8, 112
MASK, BOX = (230, 159, 0), (0, 114, 178)  # from a color-blind-safe palette


def draw(image: NDArray[np.uint8], mask: NDArray[np.bool_], box: list[int] | None) -> NDArray[np.uint8]:
    """The image with the mask outlined in orange and the judge's box in blue."""
    scale = SIDE / image.shape[0]
    out = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    large = cv2.resize(mask.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, contours, -1, MASK, 2)
    if box:
        left, top, right, bottom = (round(v * scale) for v in box)
        cv2.rectangle(out, (left, top), (right - 1, bottom - 1), BOX, 1)
    return np.asarray(out, np.uint8)


def main() -> None:
    judged = json.loads((Path(__file__).parent / "judged.json").read_text(encoding="utf-8"))
    boxes = {entry["seed"]: entry["box"] for entry in judged["artifact"]}
    sampler = HandSampler("final")
    rows: dict[str, list[NDArray[np.uint8]]] = {"hit": [], "elsewhere": [], "missed": [], "false alarm": []}
    for seeds in (list(boxes), judged["clean"]):
        run = record(sampler, seeds)
        for seed, image, found in zip(seeds, to_uint8(run.images), watch(sampler, run, "robust"), strict=True):
            box = boxes.get(seed)
            if box is None:
                kind = "false alarm" if found.mask.any() else ""
            elif not found.mask.any():
                kind = "missed"
            else:
                kind = "hit" if found.mask[box[1] : box[3], box[0] : box[2]].any() else "elsewhere"
            if kind and len(rows[kind]) < EACH:
                rows[kind].append(draw(image, found.mask, box))
    tiles = [tile for row in rows.values() for tile in row]
    sheet = cv2.cvtColor(contact_sheet(tiles, columns=EACH), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(DOCS / "judged.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
