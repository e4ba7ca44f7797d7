"""What a run shows while it samples: the artifact map over ComfyUI's own preview, and a status text on the node.

The map is drawn onto a preview picture of the same kind, which follows ComfyUI's own through its public progress call.
If previews are off, nothing is decoded, drawn or copied here.
"""

from __future__ import annotations

from typing import Any

import latent_preview
import numpy as np
import torch
from comfy.cli_args import LatentPreviewMethod, args
from comfy_api.latest import ComfyAPISync
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image

from ...asced_core import Trajectory
from ...asced_core.draw.overlay import draw_overlay
from ...asced_core.maps import resize_mask
from ...asced_core.progress import marked_so_far, status_text
from . import status
from .preferences import settings_of_client


class Preview:
    """Status text and pictures of one run.

    Args:
        patcher: ComfyUI's ModelPatcher.
    """

    def __init__(self, patcher: Any) -> None:
        context = get_executing_context()
        self._node_id = None if context is None else context.node_id
        self._patcher = patcher
        self._previewer: Any = None
        self._shown = ""

    def show(self, trajectory: Trajectory, step: int) -> None:
        """Shows the status of the run after a step, if it is new; without a device sync."""
        text = status_text(trajectory, step)
        if text != self._shown and settings_of_client().live:
            status.show(self._node_id, text)
            self._shown = text

    def paint(self, trajectory: Trajectory, step: int, denoised: torch.Tensor) -> None:
        """Shows the marked cells of the first image over its preview; call it after ComfyUI's own callback.

        Args:
            trajectory: the run.
            step: the last observed step, counted from 0.
            denoised: its prediction, as it is shown.
        """
        if self._node_id is None or args.preview_method == LatentPreviewMethod.NoPreviews:
            return
        settings = settings_of_client()
        marked = marked_so_far(trajectory) if settings.live else None
        picture = None if marked is None or not marked.any() else self._picture(denoised)
        if marked is None or picture is None:
            return
        pixels = np.asarray(picture.convert("RGB"))
        mask = resize_mask(marked, *pixels.shape[:2])
        drawn = Image.fromarray(draw_overlay(pixels, mask, opacity=settings.opacity, color=settings.color))
        _send(self._node_id, drawn, (step + 1, trajectory.schedule.steps))

    def _picture(self, denoised: torch.Tensor) -> Image.Image | None:
        """ComfyUI's own preview picture of a prediction; None if there is none for this model."""
        if self._previewer is None:
            model = self._patcher.model
            self._previewer = latent_preview.get_previewer(self._patcher.load_device, model.latent_format)
        if self._previewer is None:
            return None
        preview = self._previewer.decode_latent_to_preview_image("JPEG", denoised)
        picture = preview[1] if isinstance(preview, tuple) and len(preview) > 1 else None
        return picture if isinstance(picture, Image.Image) else None


def show_last(picture: torch.Tensor) -> None:
    """Puts a picture [1,H,W,3] in the place of the last preview, which the page keeps in front of a node's own ones."""
    context = get_executing_context()
    if context is not None and args.preview_method != LatentPreviewMethod.NoPreviews:
        _send(context.node_id, picture, (1, 1), whole=True)


def _send(node_id: str, picture: Any, progress: tuple[float, float], whole: bool = False) -> None:
    """Sends a preview picture; ``progress`` is for a node without a progress bar, ``whole`` keeps a large picture."""
    bar = get_progress_state().nodes.get(node_id)  # its values stay as the sampler node has set them
    value, total = (bar["value"], bar["max"]) if bar else progress
    ComfyAPISync().execution.set_progress(value, total, node_id, picture, ignore_size_limit=whole)
