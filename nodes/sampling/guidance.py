"""Reads the pull of guidance in a model call: what the prompt changes in the prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import create_model_options_clone, set_model_options_post_cfg_function

from ...asced_core.kdiffusion import Asked


class GuidanceReader:
    """Reads the last call that was made with ``reading``; it costs no model call.

    Args:
        guider: ComfyUI's. Other guiders may do without guidance, or mean something else by it, and are not read.
    """

    def __init__(self, guider: Any) -> None:
        self._known = type(guider) is comfy.samplers.CFGGuider
        self._pull: torch.Tensor | None = None

    def reading(self, asked: Asked) -> Asked:
        """The same call, which also leaves its guidance here."""
        if not self._known:
            return asked

        def read(args: dict[str, Any]) -> torch.Tensor:
            guided = args.get("uncond") is not None and args.get("cond_denoised") is not None
            self._pull = args["cond_denoised"] - args["uncond_denoised"] if guided else None
            denoised: torch.Tensor = args["denoised"]
            return denoised

        clone = create_model_options_clone(asked.options.get("model_options") or {})
        options = {**asked.options, "model_options": set_model_options_post_cfg_function(clone, read)}
        return replace(asked, options=options)

    def take(self) -> torch.Tensor | None:
        """Prediction with the prompt minus that without, [B,C,…,H,W], of the last call; None if it had no guidance."""
        pull, self._pull = self._pull, None
        return pull
