"""The demo's changed images on one sheet, with what the benchmark's judges say of each: better, same or worse."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from asced_core.draw.overlay import contact_sheet, enlarge  # noqa: E402

Pictures = Sequence[NDArray[np.uint8]]
BETTER, SAME, WORSE, UNKNOWN = "better", "same", "worse", "not judged"
CLEAR = 0.1  # difference in the probability of the right digit
BAR, SIDE, COLUMNS = 20, 160, 8  # pixels; images in a row


def verdicts(before: Pictures, after: Pictures, digits: Sequence[int]) -> list[str]:
    """Compares images by the recognized digit and by stray pieces; neither judge sees what was marked.

    Args:
        before, after: RGB uint8 [64,64,3] each.
        digits: what each image should show.
    """
    if not (ROOT / "benchmarks").is_dir():
        return [UNKNOWN] * len(before)  # a download without git leaves the judges out
    from benchmarks.judges import right_digit, stray_components

    chances = [right_digit(np.stack(images), digits) for images in (before, after)]
    strays = [[len(stray_components(image)) for image in images] for images in (before, after)]
    return [_verdict(later - earlier, now - then) for earlier, later, then, now in zip(*chances, *strays, strict=True)]


def _verdict(gain: float, more_strays: int) -> str:
    if more_strays:
        return WORSE if more_strays > 0 else BETTER
    return SAME if abs(gain) < CLEAR else BETTER if gain > 0 else WORSE


def sheet_of(
    before: Pictures, marked: Pictures, after: Pictures, places: Sequence[int], said: Sequence[str]
) -> NDArray[np.uint8]:
    """Stock above marked above corrected, with number and verdict over each image; RGB uint8.

    Args:
        before, marked, after: of the changed images.
        places: their numbers, from 1.
        said: a verdict for each.
    """
    tiles = []
    for images, place, word in zip(zip(before, marked, after, strict=True), places, said, strict=True):
        bar = np.full((BAR, SIDE, 3), 255, np.uint8)
        cv2.putText(bar, f"{place}: {word}", (4, BAR - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        shown = [cv2.resize(enlarge(image, SIDE), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images]
        tiles.append(np.concatenate([bar, *shown]))
    return contact_sheet(tiles, columns=min(COLUMNS, len(tiles)))


def counted(said: Sequence[str]) -> str:
    """``2 better, 5 same, 1 worse``."""
    counts = Counter(said)
    return ", ".join(f"{counts[word]} {word}" for word in (BETTER, SAME, WORSE, UNKNOWN) if counts[word])
