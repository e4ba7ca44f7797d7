"""What a job makes, as files: pictures with their report, and masks."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

CHUNK = "asced"  # key of the report in a PNG, as of ASCED Save Report


@dataclass(frozen=True)
class Made:
    """One image of a job.

    Attributes:
        picture: PNG, with the report in its metadata.
        mask: PNG of one channel, white where an artifact was found; None if that is not known.
        report: the report's JSON; None if there is none.
    """

    picture: bytes
    mask: bytes | None = None
    report: str | None = None


def png(image: Image.Image, texts: dict[str, str] | None = None) -> bytes:
    """An image as PNG, with texts in its metadata."""
    info, data = PngInfo(), io.BytesIO()
    for key, text in (texts or {}).items():
        info.add_text(key, text)
    image.save(data, "PNG", pnginfo=info)
    return data.getvalue()


def mask_png(mask: NDArray[np.float32]) -> bytes:
    """A mask [H,W] of 0 to 1 as PNG."""
    return png(Image.fromarray((mask * 255).round().astype(np.uint8)))


def with_report(data: bytes, report: str | None) -> Made:
    """An image file as it is made: as PNG, with the report that it holds, or else with the given one.

    Args:
        data: a file in any image format; a PNG that holds a report, or needs none, stays as it is.
        report: JSON of the report; None if there is none.
    """
    with Image.open(io.BytesIO(data)) as image:
        texts = {key: text for key, text in getattr(image, "text", {}).items() if isinstance(text, str)}
        if image.format == "PNG" and (CHUNK in texts or report is None):
            return Made(data, report=_readable(texts[CHUNK]) if CHUNK in texts else None)
        if report is None:
            return Made(png(image))
        return Made(png(image, {**texts, CHUNK: json.dumps(json.loads(report))}), report=_readable(report))


def one_channel(data: bytes) -> bytes:
    """A mask of ComfyUI, a PNG in shades of gray, with one channel."""
    with Image.open(io.BytesIO(data)) as image:
        return png(image.convert("L"))


def _readable(report: str) -> str:
    values: Any = json.loads(report)
    return json.dumps(values, indent=1, allow_nan=False)
