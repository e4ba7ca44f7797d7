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
    return [_verdict(*gain) for gain in gains(before, after, digits)] or [UNKNOWN] * len(before)


def gains(before: Pictures, after: Pictures, digits: Sequence[int]) -> list[tuple[int, float]]:
    """Stray pieces lost, and probability of the right digit gained; empty in a download without the judges."""
    if not (ROOT / "benchmarks").is_dir():
        return []
    from benchmarks.judges import right_digit, stray_components

    chances = [right_digit(np.stack(images), digits) for images in (before, after)]
    strays = [[len(stray_components(image)) for image in images] for images in (before, after)]
    return [(then - now, later - earlier) for earlier, later, then, now in zip(*chances, *strays, strict=True)]


def _verdict(strays_lost: int, gain: float) -> str:
    if strays_lost:
        return BETTER if strays_lost > 0 else WORSE
    return SAME if abs(gain) < CLEAR else BETTER if gain > 0 else WORSE


def best_and_worst(before: Pictures, marked: Pictures, after: Pictures, digits: Sequence[int]) -> NDArray[np.uint8]:
    """The changed image that gained most, above the one that lost most: stock, marked, corrected; RGB uint8.

    Args:
        before, marked, after: of the changed images.
        digits: what each image should show.

    Raises:
        ValueError: the judges are not here.
    """
    found = gains(before, after, digits)
    if not found:
        raise ValueError("The best and the worst image need the judges in benchmarks/: use a git checkout.")
    order = sorted(range(len(found)), key=lambda place: found[place])
    rows = []
    for word, place in (("Best", order[-1]), ("Worst", order[0])):
        names = (f"{word} of {len(found)}: stock", "marked", f"corrected: {_verdict(*found[place])}")
        images = (before[place], marked[place], after[place])
        rows += [_captioned(name, [image]) for name, image in zip(names, images, strict=True)]
    return contact_sheet(rows, columns=3)


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
        tiles.append(_captioned(f"{place}: {word}", images))
    return contact_sheet(tiles, columns=min(COLUMNS, len(tiles)))


def _captioned(text: str, images: Pictures) -> NDArray[np.uint8]:
    """Images in a column, enlarged, below a line of text."""
    bar = np.full((BAR, SIDE, 3), 255, np.uint8)
    cv2.putText(bar, text, (4, BAR - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    shown = [cv2.resize(enlarge(image, SIDE), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images]
    return np.concatenate([bar, *shown])


def counted(said: Sequence[str]) -> str:
    """``2 better, 5 same, 1 worse``."""
    counts = Counter(said)
    return ", ".join(f"{counts[word]} {word}" for word in (BETTER, SAME, WORSE, UNKNOWN) if counts[word])
