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
    # of ComfyUI's conditioning objects
    rows = [getattr(value, "cond", None) for one in conditioning for value in one.get("model_conds", {}).values()]
    return any(map(_differ, rows))


def prompts_in(conditioning: Any) -> bool:
    """The same of CONDITIONING, before it is sampled."""
    return any(_differ(rows) for text, options in conditioning for rows in (text, *{**options, "mask": None}.values()))


def _differ(rows: Any) -> bool:
    return isinstance(rows, torch.Tensor) and rows.ndim > 0 and len(rows) > 1 and bool((rows != rows[:1]).any())
