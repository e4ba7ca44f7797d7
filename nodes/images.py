"""Converts images and masks between ComfyUI's tensors and the core's pictures."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from comfy_api.latest import ui

from ..asced_core import Report
from ..asced_core.report.masks import shaped_masks, spread_over_frames
from ..asced_core.report.outcome import plural


def with_colors(image: torch.Tensor) -> torch.Tensor:
    """A ComfyUI IMAGE [B,H,W,C] with three color channels or more, and without NaN, which becomes black.

    Gray is repeated in each color; a second channel next to gray is alpha and left out, a fourth one is kept.

    Raises:
        ValueError: it has another form.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(
            f"The image has shape {tuple(image.shape)}: connect an IMAGE [B,H,W,C] with 1 to 4 channels in C."
        )
    colors = image if image.shape[-1] > 2 else image[..., :1].expand(-1, -1, -1, 3)
    return colors.detach().nan_to_num()


def to_rgb(image: torch.Tensor) -> torch.Tensor:
    """A ComfyUI IMAGE as RGB [B,H,W,3], without alpha; see with_colors."""
    return with_colors(image)[..., :3]


def to_pictures(image: torch.Tensor) -> np.ndarray:
    """A ComfyUI IMAGE, 0 to 1, as RGB uint8 [B,H,W,3]; see with_colors."""
    return (to_rgb(image).clamp(0, 1) * 255).round().byte().cpu().numpy()


def masks_for(report: Report, image: torch.Tensor | None, **shape: Any) -> np.ndarray:
    """Masks [B,H,W] at the size of ``image`` [B,H,W,C]; without an image, at the size the latent decodes to."""
    if image is None:
        return shaped_masks(report, *report.size, **shape)
    frames = frames_each(report, image)
    masks = shaped_masks(report, image.shape[1], image.shape[2], **shape)
    return masks if len(masks) == len(image) else spread_over_frames(masks, report.run.frames, frames)


def found_in(report: Report) -> tuple[torch.Tensor, Report]:
    """What a run found, as the values of the MASK and REPORT outputs."""
    return torch.from_numpy(report.image_masks()), report


def frames_each(report: Report, image: torch.Tensor) -> int:
    """The number of images [B,H,W,C] for each image or video of the report.

    Raises:
        ValueError: the images do not belong to the report.
    """
    count, latent_frames = len(report.images), report.run.frames
    items = count // latent_frames
    if len(image) != count and (latent_frames == 1 or len(image) % items):
        raise ValueError(
            f"This report covers {plural(count, 'image')}, but {len(image)} are connected: "
            "connect the images decoded from the same sampler."
        )
    return len(image) // items


def preview(image: torch.Tensor, cls: Any, kind: Any = ui.PreviewImage) -> Any:
    """ComfyUI's preview of an IMAGE, or of a MASK with ``ui.PreviewMask``, as the UI output of a node.

    It names its file with Python's global random generator, which is put back.
    """
    state = random.getstate()
    try:
        return kind(image, cls=cls)
    finally:
        random.setstate(state)
