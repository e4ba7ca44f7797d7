"""A function around the network, for one model call: its options are copied, and nothing of the graph changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key

from ...asced_core.kdiffusion import Asked

KEY = "ASCED network"


def around_network(asked: Asked, wrapper: Callable[..., torch.Tensor]) -> Asked:
    """The same call with ``wrapper(apply_model, x, t, …)`` in place of ComfyUI's ``apply_model``, as the innermost."""
    clone: dict[str, Any] = create_model_options_clone(asked.options.get("model_options") or {})
    add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, wrapper, clone, is_model_options=True)
    return replace(asked, options={**asked.options, "model_options": clone})
