"""A short name by which a checkpoint is recognized."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from .module_walk import vectors

MOST = 16  # parameters that are read: a few kilobytes
DIGITS = 8
ERRORS = (RuntimeError, TypeError, ValueError, AttributeError)


def model_identity(patcher: Any) -> str:
    """The class of a model and a digest of some of its weights, such as ``SDXL 1f0c9ab2``; only the class without any.

    The digest covers one-dimensional parameters (biases and norms), spread over the network. LoRA rarely touches them,
    and a patched one is read from ComfyUI's backup, so a LoRA does not change the name. They are compared as float16:
    float32 and float16 copies of a checkpoint have the same name. Other checkpoints, merges, and copies stored in
    bfloat16 or float8 have other names.

    Args:
        patcher: ComfyUI's ModelPatcher; its model may be on any device.
    """
    name, values = type(patcher.model).__name__, _sampled(patcher)
    return f"{name} {hashlib.sha256(values).hexdigest()[:DIGITS]}" if values else name


def _sampled(patcher: Any) -> bytes:
    """The values of up to MOST parameters, as float16; those that cannot be converted are left out."""
    network = getattr(patcher.model, "diffusion_model", None)
    if not isinstance(network, torch.nn.Module):
        return b""
    flat = list(vectors(network))
    places = np.unique(np.linspace(0, len(flat) - 1, min(MOST, len(flat))).round().astype(int))
    weights = [_original(patcher, f"diffusion_model.{name}", weight) for name, weight in map(flat.__getitem__, places)]
    try:
        return _bytes_of(weights)  # waits for the device once
    except ERRORS:
        return b"".join(_each(weights))


def _each(weights: list[torch.Tensor]) -> Iterator[bytes]:
    for weight in weights:
        with contextlib.suppress(*ERRORS):  # quantized, without values, or kept otherwise
            yield _bytes_of([weight])


def _bytes_of(weights: list[torch.Tensor]) -> bytes:
    values: bytes = torch.cat([one.detach().to(torch.float16) for one in weights]).cpu().numpy().tobytes()
    return values


def _original(patcher: Any, key: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight without the patches that ComfyUI has put into it."""
    backup = getattr(patcher, "backup", {}).get(key)
    if backup is not None:
        original: torch.Tensor = backup.weight
        return original
    hooked = getattr(patcher, "hook_backup", {}).get(key)
    return weight if hooked is None else hooked[0]
