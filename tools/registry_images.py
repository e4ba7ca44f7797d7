"""Draws the icon and the banner of the registry entry: ``python tools/registry_images.py``; numpy and cv2 only.

A ring forms out of noise on a grid of cells. Midway some cells jump: they are marked, and right at the end.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
ICON = (400, 400)  # width, height
BANNER = (1260, 540)  # 21:9, as the registry asks
FINE = 4  # drawn this much larger, then averaged down, so that edges are smooth

Picture = NDArray[np.uint8]
Field = NDArray[np.float64]
Color = tuple[int, int, int]

NIGHT: Color = (17, 21, 33)  # RGB, as all colors here
DARK, BRIGHT = np.array((36, 50, 84.0)), np.array((126, 208, 255.0))
MARK: Color = (255, 90, 30)
LINE: Color = (126, 208, 255)
LIMIT: Color = (110, 122, 150)

CELLS = 12
FLAW = (slice(6, 10), slice(7, 11))  # rows and columns of the cells that jump
NOISE = (1.0, 0.55, 0.25, 0.1, 0.0)  # share of noise in each picture of the banner
MARKED = 2  # the picture in which the cells jump


def ring() -> Field:
    """A ring, 0 to 1, [CELLS, CELLS]."""
    y, x = np.mgrid[:CELLS, :CELLS] - (CELLS - 1) / 2
    return np.exp(-(((np.hypot(x, y) - 3.6) / 1.2) ** 2))


def flawed(field: Field) -> Field:
    """A copy with the cells of FLAW turned upside down."""
    out = field.copy()
    out[FLAW] = 1 - out[FLAW]
    return out


def draw_grid(canvas: Picture, left: float, top: float, side: float, field: Field, mark: bool) -> None:
    """Draws the field as rounded cells into a square of the canvas, and an outline around FLAW."""
    pitch = side / CELLS
    for row, column in np.ndindex(CELLS, CELLS):
        color = DARK + (BRIGHT - DARK) * float(np.clip(field[row, column], 0, 1))
        _rounded(canvas, left + column * pitch, top + row * pitch, pitch * 0.86, pitch * 0.2, tuple(color))
    if mark:
        rows, columns = FLAW
        corner = left + columns.start * pitch - pitch * 0.07, top + rows.start * pitch - pitch * 0.07
        _outline(canvas, *corner, (columns.stop - columns.start) * pitch, pitch * 0.3, pitch * 0.26)


def _rounded(canvas: Picture, left: float, top: float, side: float, radius: float, color: tuple[float, ...]) -> None:
    a, b, r = round(left * FINE), round(top * FINE), round(radius * FINE)
    s = round(side * FINE)
    cv2.rectangle(canvas, (a + r, b), (a + s - r, b + s), color, -1)
    cv2.rectangle(canvas, (a, b + r), (a + s, b + s - r), color, -1)
    for x, y in ((a + r, b + r), (a + s - r, b + r), (a + r, b + s - r), (a + s - r, b + s - r)):
        cv2.circle(canvas, (x, y), r, color, -1)


def _outline(canvas: Picture, left: float, top: float, side: float, radius: float, width: float) -> None:
    """A rounded square in MARK: four lines and four quarter arcs."""
    a, b, s, r, thick = (round(value * FINE) for value in (left, top, side, radius, width))
    for (x, y), turn in zip(((a + r, b + r), (a + s - r, b + r), (a + s - r, b + s - r), (a + r, b + s - r)),
                            (180, 270, 0, 90), strict=True):  # fmt: skip
        cv2.ellipse(canvas, (x, y), (r, r), turn, 0, 90, MARK, thick)
    for start, end in (((a + r, b), (a + s - r, b)), ((a + r, b + s), (a + s - r, b + s)),
                       ((a, b + r), (a, b + s - r)), ((a + s, b + r), (a + s, b + s - r))):  # fmt: skip
        cv2.line(canvas, start, end, MARK, thick)


def draw_curve(canvas: Picture, left: float, right: float, base: float, height: float, limit: float, at: float) -> None:
    """The change over time: calm, a peak above the dashed limit at ``at``, calm again."""
    x = np.linspace(left, right, 400)
    share = 0.16 + 0.08 * np.sin((x - left) / 47) + 0.05 * np.sin((x - left) / 19)
    share += 0.8 * np.exp(-(((x - at) / 34) ** 2))
    points = np.stack([x, base - height * share], axis=1)
    for start in np.arange(left, right, 22):
        y = round((base - height * limit) * FINE)
        cv2.line(canvas, (round(start * FINE), y), (round((start + 11) * FINE), y), LIMIT, 2 * FINE)
    for above, color in ((False, LINE), (True, MARK)):
        part = points[share > limit] if above else points
        cv2.polylines(canvas, [np.round(part * FINE).astype(np.int32)], False, color, 5 * FINE)


def icon() -> Picture:
    """The ring with the marked cells."""
    canvas = _canvas(ICON)
    draw_grid(canvas, 34, 34, 334, flawed(ring()), mark=True)
    return _finished(canvas, ICON)


def banner() -> Picture:
    """Five steps of a run, and the change below them."""
    canvas = _canvas(BANNER)
    noise = np.random.default_rng(3).random((CELLS, CELLS))
    side, gap, left = 204, 30, 60
    for number, share in enumerate(NOISE):
        field = flawed(ring()) if number == MARKED else ring()
        at = left + number * (side + gap)
        draw_grid(canvas, at + 1, 80, side, (1 - share) * field + share * noise, mark=number == MARKED)
    middle = left + MARKED * (side + gap) + side / 2
    draw_curve(canvas, left, BANNER[0] - left, 470, 140, 0.5, middle)
    return _finished(canvas, BANNER)


def _canvas(size: tuple[int, int]) -> Picture:
    return np.full((size[1] * FINE, size[0] * FINE, 3), NIGHT, np.uint8)


def _finished(canvas: Picture, size: tuple[int, int]) -> Picture:
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), np.uint8)


def main() -> None:
    """Writes both files."""
    for name, picture in (("icon", icon()), ("banner", banner())):
        cv2.imwrite(str(FOLDER / f"{name}.png"), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
