"""A short name by which a checkpoint is recognized."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

MOST = 16  # parameters that are read: a few kilobytes
DIGITS = 8


def model_identity(patcher: Any) -> str:
    """The class of a model and a digest of some of its weights, such as ``SDXL 1f0c9ab2``; only the class without any.

    The digest covers one-dimensional parameters (biases and norms), spread over the network. LoRA rarely touches them,
    and a patched one is read from ComfyUI's backup, so a LoRA does not change the name. They are compared as float16:
    float32 and float16 copies of a checkpoint have the same name. Other checkpoints, merges, and copies stored in
    bfloat16 or float8 have other names.

    Args:
        patcher: ComfyUI's ModelPatcher; its model may be on any device.
    """
    model = patcher.model
    digest, count = hashlib.sha256(), 0
    for values in _sampled(patcher):
        digest.update(values)
        count += 1
    name = type(model).__name__
    return f"{name} {digest.hexdigest()[:DIGITS]}" if count else name


def _sampled(patcher: Any) -> Iterator[bytes]:
    """The values of up to MOST parameters, as float16; those that cannot be converted are left out."""
    network = getattr(patcher.model, "diffusion_model", None)
    if not isinstance(network, torch.nn.Module):
        return
    flat = [(name, weight) for name, weight in network.named_parameters() if weight.ndim == 1]
    for place in np.unique(np.linspace(0, len(flat) - 1, min(MOST, len(flat))).round().astype(int)):
        name, weight = flat[place]
        try:
            original = _original(patcher, f"diffusion_model.{name}", weight)
            yield original.detach().to("cpu", torch.float16).numpy().tobytes()
        except (RuntimeError, TypeError, ValueError, AttributeError):  # quantized, without values, or kept otherwise
            continue


def _original(patcher: Any, key: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight without the patches that ComfyUI has put into it."""
    backup = getattr(patcher, "backup", {}).get(key)
    if backup is not None:
        original: torch.Tensor = backup.weight
        return original
    hooked = getattr(patcher, "hook_backup", {}).get(key)
    return weight if hooked is None else hooked[0]
