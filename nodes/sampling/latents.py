"""Parts of a LATENT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def rows_of(latent: dict[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """Some images of a LATENT with their noise masks and noise indices, as in ComfyUI's Latent From Batch."""
    samples = latent["samples"]
    chosen = torch.tensor(places)
    out = {**latent, "samples": _rows(samples, chosen)}
    mask = latent.get("noise_mask")
    if mask is not None and len(mask) > 1:
        out["noise_mask"] = mask[chosen.to(mask.device) % len(mask)]
    indices = batch_indices(latent) or range(samples.size()[0])
    out["batch_index"] = [indices[place] for place in places if place < len(indices)]
    return out


def batch_indices(latent: dict[str, Any]) -> list[int] | None:
    """The noise indices of a LATENT as plain numbers, from a list or a tensor as in ComfyUI; None if it has none."""
    given = latent.get("batch_index")
    return None if given is None else [int(index) for index in torch.as_tensor(given).flatten().tolist()]


def _rows(samples: Any, chosen: torch.Tensor) -> Any:
    if getattr(samples, "is_nested", False):  # video with audio
        return type(samples)([part[chosen.to(part.device)] for part in samples.unbind()])
    return samples[chosen.to(samples.device)]
