"""Whether the images of a batch have prompts of their own, and whether two runs have the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

DIGITS = 16


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


def digest_of(conditioning: Any) -> str:
    """Identifies CONDITIONING, or lists of it; of objects such as a ControlNet, only the class counts."""
    digest = hashlib.sha256()
    for part in _parts(conditioning):
        digest.update(part)
    return digest.hexdigest()[:DIGITS]


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        yield str(tuple(value.shape)).encode()
        yield value.detach().cpu().float().contiguous().numpy().tobytes()
    elif isinstance(value, dict):
        for name in sorted(value, key=str):
            yield str(name).encode()
            yield from _parts(value[name])
    elif isinstance(value, (list, tuple)):
        yield str(len(value)).encode()
        for one in value:
            yield from _parts(one)
    else:
        yield repr(value if isinstance(value, (str, int, float, type(None))) else type(value)).encode()
