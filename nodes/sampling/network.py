"""A function around the network, for one model call: its options are copied, and nothing of the graph changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key

from ...asced_core.kdiffusion import Asked
from .control import Controls

KEY = "ASCED network"


def around_network(asked: Asked, wrapper: Callable[..., torch.Tensor], controls: Controls | None = None) -> Asked:
    """The same call with something in place of the network.

    Args:
        asked: the call.
        wrapper: takes ComfyUI's ``apply_model`` and its arguments; it is the innermost.
        controls: replaces the ControlNets; None leaves them as they are.
    """
    clone: dict[str, Any] = create_model_options_clone(asked.options.get("model_options") or {})
    add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, wrapper, clone, is_model_options=True)
    if controls is not None:
        add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, controls, clone, is_model_options=True)
    return replace(asked, options={**asked.options, "model_options": clone})
