"""Whether the images of a batch have prompts of their own."""

from __future__ import annotations

from typing import Any

import torch


def several_prompts(guider: Any) -> bool:
    """True if the images of a run have positive prompts of their own: a part of it has rows that differ.

    Args:
        guider: ComfyUI's, while it samples.
    """
    conditioning = getattr(guider, "conds", {}).get("positive") or ()
    return any(_differ(value) for one in conditioning for value in one.get("model_conds", {}).values())


def rows_differ(conditioning: Any) -> bool:
    """The same of a CONDITIONING, before ComfyUI processes it."""
    return any(_differ(value) for tensor, options in conditioning for value in (tensor, *options.values()))


def _differ(value: Any) -> bool:
    rows = getattr(value, "cond", value)  # of ComfyUI's conditioning objects
    return isinstance(rows, torch.Tensor) and rows.ndim > 0 and len(rows) > 1 and bool((rows != rows[:1]).any())
