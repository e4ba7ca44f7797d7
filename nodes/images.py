"""Converts images and masks between ComfyUI's tensors and the core's pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..asced_core import Report
from ..asced_core.report.masks import shaped_masks, spread_over_frames


def to_pictures(image: torch.Tensor) -> np.ndarray:
    """A ComfyUI IMAGE [B,H,W,C], 0 to 1, as RGB uint8 [B,H,W,3]."""
    return (image[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy()


def masks_for(report: Report, image: torch.Tensor | None, **shape: Any) -> np.ndarray:
    """Masks [B,H,W] at the size of ``image`` [B,H,W,C]; without an image, at the size the latent decodes to."""
    if image is None:
        return shaped_masks(report, *report.size, **shape)
    frames = frames_each(report, image)
    masks = shaped_masks(report, image.shape[1], image.shape[2], **shape)
    return masks if len(masks) == len(image) else spread_over_frames(masks, report.run.frames, frames)


def frames_each(report: Report, image: torch.Tensor) -> int:
    """The number of images [B,H,W,C] for each image or video of the report.

    Raises:
        ValueError: the images do not belong to the report.
    """
    count, latent_frames = len(report.images), report.run.frames
    items = count // latent_frames
    if len(image) != count and (latent_frames == 1 or len(image) % items):
        raise ValueError(
            f"This report covers {count} image(s), but {len(image)} are connected: "
            "connect the images decoded from the same sampler."
        )
    return len(image) // items
