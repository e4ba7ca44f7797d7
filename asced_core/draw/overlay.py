"""Images with the artifact regions drawn in, and contact sheets. RGB uint8 throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..detect.regions import Region
from ..maps import Picture, without_nan
from .heat import cividis

Color = tuple[int, int, int]  # RGB, 0 to 255 each

STYLES = ("tint", "outline", "heat", "side by side")
# Vermilion stands out from skin, sky and foliage, for most color-blind viewers too; the others are for reddish images,
# most of them from the color-blind-safe palette of Okabe and Ito.
COLORS: dict[str, Color] = {
    "vermilion": (255, 64, 0), "sky blue": (86, 180, 233), "yellow": (240, 228, 66), "green": (0, 158, 115),
    "purple": (204, 121, 167), "white": (255, 255, 255), "black": (0, 0, 0),
}  # fmt: skip
OUTLINE = COLORS["vermilion"]
HOTTEST = 4  # times the threshold: upper end of the heat map, the same for all images; few cells are above it
MIN_SIDE = 256  # smaller images are enlarged first, or their outlines would hide them


def enlarge(picture: Picture, side: int) -> Picture:
    """Copy [H,W,3] enlarged by an integer factor, nearest neighbor, to a shorter side of at least ``side``."""
    factor = max(1, math.ceil(side / min(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def draw_overlay(
    picture: Picture,
    mask: NDArray[np.bool_],
    regions: Sequence[Region] = (),
    signal_size: tuple[int, int] | None = None,
    opacity: float = 0.45,
    style: str = "tint",
    color: Color = OUTLINE,
    ratio: NDArray[np.floating] | None = None,
) -> Picture:
    """The image with its artifact regions drawn in and labeled with their scores.

    Args:
        picture: uint8 [H,W,3].
        mask: bool [H,W].
        regions: labeled with their scores; their boxes are in cells of the signal.
        signal_size: height and width of the signal that the boxes refer to; None draws no labels.
        opacity: opacity of the tint or the heat map, 0 to 1.
        style: ``tint`` fills and outlines the regions; ``outline`` only outlines them; ``heat`` shows how far the
            threshold was exceeded, over a grayscale image; ``side by side`` shows the plain image on the left and the
            tinted one on the right.
        color: RGB of tint and outline; COLORS lists named ones.
        ratio: change as a multiple of the threshold, float [H,W], 0 below it; required by ``heat``.

    Returns:
        RGB uint8, enlarged to a shorter side of at least 256 pixels.

    Raises:
        ValueError: mask or ratio does not have the size of the picture, or the style is unknown.
    """
    _check(picture, mask, style, ratio)
    canvas = enlarge(picture, MIN_SIDE).copy()
    height, width = canvas.shape[:2]
    big = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    plain = canvas.copy() if style == "side by side" else None
    if style == "heat":
        assert ratio is not None
        at_size = cv2.resize(without_nan(ratio), (width, height), interpolation=cv2.INTER_NEAREST)
        canvas = _heat(canvas, np.asarray(at_size, np.float32), opacity)
    elif style != "outline":
        inside = big > 0
        tint = np.array(color, np.float32)
        canvas[inside] = (canvas[inside] * (1 - opacity) + tint * opacity).astype(np.uint8)
    contours, _ = cv2.findContours(big, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, color, max(1, height // 256))
    if signal_size is not None:
        for region in regions:
            left, top = region.box[0] * width // signal_size[1], region.box[1] * height // signal_size[0]
            draw_label(canvas, f"{region.score:.1f}", left, top)
    return canvas if plain is None else contact_sheet([plain, canvas], columns=2)


def _check(picture: Picture, mask: NDArray[np.bool_], style: str, ratio: NDArray[np.floating] | None) -> None:
    if mask.shape != picture.shape[:2]:
        raise ValueError(f"The mask must have the size of the picture: got {mask.shape} and {picture.shape[:2]}.")
    if style not in STYLES:
        raise ValueError(f"The overlay style must be one of {', '.join(STYLES)}, got {style!r}.")
    if style == "heat" and (ratio is None or ratio.shape != mask.shape):
        raise ValueError(f"Style heat needs ratio, an array of shape {mask.shape} with multiples of the threshold.")


def _heat(canvas: Picture, ratio: NDArray[np.float32], opacity: float) -> Picture:
    """Heat map of how far the threshold was exceeded, over the image in gray; a scale is at the bottom left."""
    gray: Picture = np.repeat(np.asarray(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, axis=2)
    level = np.log(np.clip(ratio, 1, HOTTEST)) / math.log(HOTTEST)
    hot = ratio > 0
    gray[hot] = (gray[hot].astype(np.float32) * (1 - opacity) + cividis(level)[hot] * opacity).astype(np.uint8)
    height, width = gray.shape[:2]
    size, edge = height // 40, height // 64
    top, right = height - edge - size, edge + width // 3
    gray[top : top + size, edge:right] = cividis(np.linspace(0, 1, right - edge)[None])
    draw_label(gray, "1x", edge, top)
    draw_label(gray, f"{HOTTEST}x", right - height // 12, top)
    return gray


def draw_label(canvas: Picture, text: str, left: int, top: int) -> None:
    """Draws text into the canvas above a point, or below it at the top edge; white with a black outline."""
    size = canvas.shape[0] / 480
    thickness = max(1, round(size * 1.5))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    left = min(max(0, left), canvas.shape[1] - width - 2)
    base = top - 3 if top - 3 - height > 0 else top + height + 3
    cv2.putText(canvas, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), thickness + 2, cv2.LINE_AA)
    cv2.putText(canvas, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thickness, cv2.LINE_AA)


GAP = 4  # white pixels between the images of a sheet


def contact_sheet(pictures: Sequence[Picture], columns: int | None = None, gap: int = GAP) -> Picture:
    """Images of the same size in rows on white, RGB uint8.

    Args:
        pictures: RGB uint8 [H,W,3] each.
        columns: images per row; None makes the sheet about square.
        gap: white pixels between them.

    Raises:
        ValueError: there are no pictures, or their sizes differ.
    """
    if not pictures or len({p.shape for p in pictures}) != 1:
        raise ValueError("A contact sheet needs at least one picture, and all pictures must have the same size.")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures[0].shape[:2]
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def split_sheet(sheet: Picture, count: int, gap: int = GAP) -> list[Picture]:
    """The ``count`` images of a contact sheet that was made with the default number of columns."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    height, width = (sheet.shape[0] + gap) // rows, (sheet.shape[1] + gap) // columns
    corners = [(i // columns * height, i % columns * width) for i in range(count)]
    return [sheet[top : top + height - gap, left : left + width - gap] for top, left in corners]
