"""What a run shows while it samples: the artifact map over ComfyUI's own preview, and a status text on the node.

The map is drawn into the preview that ComfyUI sends anyway, through the one progress bar of the sampler's callback.
If previews are off, nothing is decoded, drawn or copied here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import numpy as np
from comfy_execution.utils import get_executing_context
from PIL import Image

from ...asced_core import Trajectory
from ...asced_core.draw.overlay import draw_overlay
from ...asced_core.maps import resize_mask
from ...asced_core.progress import marked_so_far, status_text
from . import status
from .preferences import settings_of_client

PREVIEWER = "previewer"  # its name in the callback of ComfyUI's latent_preview.prepare_callback
DECODE = "decode_latent_to_preview_image"


class Preview:
    """Status text and pictures of one run."""

    def __init__(self) -> None:
        context = get_executing_context()
        self._node_id = None if context is None else context.node_id
        self._trajectory: Trajectory | None = None
        self._shown = ""

    def show(self, trajectory: Trajectory, step: int) -> None:
        """Shows the status of the run after a step, if it is new; without a device sync."""
        self._trajectory = trajectory
        text = status_text(trajectory, step)
        if text != self._shown and settings_of_client().live:
            status.show(self._node_id, text)
            self._shown = text

    def painted(self, callback: Any) -> Any:
        """ComfyUI's callback with the artifact map in its previews; the callback itself if it makes none.

        The callback is copied with our previewer in place of its own, so that everything else it does still happens
        and nothing in ComfyUI is changed. A callback from elsewhere is left alone: it only gets the status text.
        """
        names = getattr(getattr(callback, "__code__", None), "co_freevars", ())
        if PREVIEWER not in names:
            return callback
        cells = list(callback.__closure__)
        place = names.index(PREVIEWER)
        previewer = cells[place].cell_contents
        if not hasattr(previewer, DECODE):  # previews are off
            return callback
        cells[place] = CellType(_Painted(previewer, self._paint))
        copy = FunctionType(
            callback.__code__, callback.__globals__, callback.__name__, callback.__defaults__, tuple(cells)
        )
        copy.__kwdefaults__ = callback.__kwdefaults__
        return copy

    def _paint(self, picture: Image.Image) -> Image.Image:
        settings = settings_of_client()
        marked = None if self._trajectory is None or not settings.live else marked_so_far(self._trajectory)
        if marked is None or not marked.any():
            return picture
        pixels = np.asarray(picture.convert("RGB"))
        mask = resize_mask(marked, *pixels.shape[:2])
        return Image.fromarray(draw_overlay(pixels, mask, opacity=settings.opacity, color=settings.color))


class _Painted:
    """A previewer with the artifact map drawn onto its pictures."""

    def __init__(self, previewer: Any, paint: Callable[[Image.Image], Image.Image]) -> None:
        self._previewer, self._paint = previewer, paint

    def decode_latent_to_preview_image(self, *args: Any, **kwargs: Any) -> Any:
        """Format, picture and largest side, as from ComfyUI's previewer."""
        preview = getattr(self._previewer, DECODE)(*args, **kwargs)
        if isinstance(preview, tuple) and len(preview) > 1 and isinstance(preview[1], Image.Image):
            return (preview[0], self._paint(preview[1]), *preview[2:])
        return preview

    def __getattr__(self, name: str) -> Any:
        return getattr(self._previewer, name)
