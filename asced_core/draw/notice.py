"""A sentence as a picture, in place of one that cannot be drawn: a viewer without anything to show stops no run."""

from __future__ import annotations

import cv2
import numpy as np

from ..maps import Picture

FONT = cv2.FONT_HERSHEY_SIMPLEX
PAPER, INK = 255, 70  # gray
LINE = 34  # pixels, at most; narrow pictures get smaller text
COLUMNS = 44  # characters that fit into a line, at least


def notice(text: str, height: int, width: int) -> Picture:
    """The text in the middle of an empty picture, in lines of words; RGB uint8 [height,width,3].

    Args:
        text: one or a few sentences; characters outside ASCII are drawn as question marks.
        height, width: of the picture in pixels.
    """
    picture = np.full((height, width, 3), PAPER, np.uint8)
    words = text.encode("ascii", "replace").decode().split()
    line = min(LINE, width // (COLUMNS // 2))
    lines = _wrapped(words, width - 2 * line, line / LINE)
    while len(lines) * line > height and line > 1:
        line -= 1
        lines = _wrapped(words, width - 2 * line, line / LINE)
    base = (height - len(lines) * line) // 2 + round(0.75 * line)
    thick = max(1, round(2 * line / LINE))
    for place, words_of_line in enumerate(lines):
        start = (width - _width(words_of_line, line / LINE)) // 2, base + place * line
        cv2.putText(picture, words_of_line, start, FONT, line / LINE, (INK, INK, INK), thick, cv2.LINE_AA)
    return picture


def _wrapped(words: list[str], width: int, scale: float) -> list[str]:
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer, scale) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, FONT, scale, max(1, round(2 * scale)))[0][0])
