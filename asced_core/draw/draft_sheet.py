"""One picture of all drafts: which is which, how they rank, and which were finished."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np

from ..maps import Picture
from ..report.drafts import Drafts
from .overlay import COLORS, contact_sheet, enlarge
from .timeline import THUMBNAIL, picture_of, thumbnail

SHEET = 2048  # pixels: about the width of the sheet, at most; many drafts get smaller pictures
SMALL, SIDE = 128, 192  # pixels: shorter side of a picture, at least; with many drafts, and with few
FRAME = 6  # pixels around a picture of side 192
FONT = cv2.FONT_HERSHEY_SIMPLEX
FINISHED, OTHER = COLORS["sky blue"], COLORS["white"]


def draft_sheet(drafts: Drafts, finished: Mapping[int, Picture] | None = None) -> Picture:
    """All drafts in rows, RGB uint8: each with its number from 1, rank, run score and seed below it.

    The finished ones have a blue frame. Predictions whose colors are unknown are gray.

    Args:
        drafts: of a run.
        finished: decoded images, RGB uint8 [H,W,3] of one size, by the places of their drafts; each is shown in place
            of its draft, at most 512 pixels a side.
    """
    pictures = _at_one_size([_small(drafts, place) for place in range(len(drafts.ranked))], finished or {})
    return contact_sheet([_card(picture, drafts, place) for place, picture in enumerate(pictures)])


def _small(drafts: Drafts, place: int) -> Picture:
    """The prediction of a draft."""
    frame = drafts.pictures[place]
    return picture_of(frame) if len(frame) else np.full((SIDE, SIDE, 3), 128, np.uint8)


def _at_one_size(small: list[Picture], finished: Mapping[int, Picture]) -> list[Picture]:
    room = SHEET // math.ceil(math.sqrt(len(small)))
    least, most = max(SMALL, min(SIDE, room)), max(SMALL, min(THUMBNAIL, room))
    shown = {place: enlarge(thumbnail(picture, most), least) for place, picture in finished.items()}
    height, width = next(iter(shown.values()), enlarge(small[0], least)).shape[:2]

    def resized(picture: Picture) -> Picture:
        return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)

    return [shown[place] if place in shown else resized(picture) for place, picture in enumerate(small)]


def _card(picture: Picture, drafts: Drafts, place: int) -> Picture:
    """A picture in its frame, with a strip of text below it."""
    color = FINISHED if place in drafts.kept else OTHER
    unit = min(picture.shape[:2]) / SIDE
    edge, width = round(FRAME * unit), picture.shape[1]
    run_score = drafts.ranked[place].relative
    lines = [
        (f"{place + 1}", f"rank {drafts.ranks[place]}", 0.8),
        ("run score", "not measurable" if math.isnan(run_score) else f"{round(run_score, 1) + 0.0:+.1f}", 0.55),
    ]
    if drafts.seeds:
        lines.append(("seed", str(drafts.seeds[place]), 0.55))
    strips = [_line(left, right, scale * unit, width, color) for left, right, scale in lines]
    card = np.concatenate([picture, *strips])
    framed = cv2.copyMakeBorder(card, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=color)
    return np.asarray(framed, np.uint8)


def _line(left: str, right: str, scale: float, width: int, color: tuple[int, int, int]) -> Picture:
    """A line of text, black on a color: one word on the left, one on the right; smaller if it does not fit."""
    line = np.full((round(36 * scale), width, 3), color, np.uint8)
    thick = max(1, round(1.6 * scale))
    scale *= min(1.0, width / cv2.getTextSize(f"{left} {right}", FONT, scale, thick)[0][0])
    across = cv2.getTextSize(right, FONT, scale, thick)[0][0]
    base = round(0.75 * len(line))
    for text, start in ((left, 0), (right, width - across)):
        cv2.putText(line, text, (start, base), FONT, scale, (0, 0, 0), thick, cv2.LINE_AA)
    return line
