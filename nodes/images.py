"""Images and masks between ComfyUI's tensors and the pictures of the core."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..asced_core import Report
from ..asced_core.report.masks import shaped_masks, spread_over_frames


def to_pictures(image: torch.Tensor) -> np.ndarray:
    """The host's IMAGE [B,H,W,C], 0 to 1, as RGB uint8."""
    return (image[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy()


def masks_for(report: Report, image: torch.Tensor | None, **shape: Any) -> np.ndarray:
    """Masks [B,H,W] at the size of ``image`` [B,H,W,C], or of the decoded image without one."""
    if image is None:
        return shaped_masks(report, *report.size, **shape)
    frames = frames_each(report, image)
    masks = shaped_masks(report, image.shape[1], image.shape[2], **shape)
    return masks if len(masks) == len(image) else spread_over_frames(masks, report.run.frames, frames)


def frames_each(report: Report, image: torch.Tensor) -> int:
    """How many of the images [B,H,W,C] belong to each image or video of the report.

    Raises:
        ValueError: they are not those of the report.
    """
    count, latent_frames = len(report.images), report.run.frames
    items = count // latent_frames
    if len(image) != count and (latent_frames == 1 or len(image) % items):
        raise ValueError(
            f"This report is about {count} image(s) but {len(image)} came in: "
            "connect the images decoded from the same sampler."
        )
    return len(image) // items
