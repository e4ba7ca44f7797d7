"""What the network predicts with the prompt alone, and without it, for the run score."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import create_model_options_clone, set_model_options_post_cfg_function

from ...asced_core.kdiffusion import Asked


class PromptReader:
    """Reads the prediction with the prompt alone from a call with guidance; it costs no model call.

    Args:
        guider: ComfyUI's. Other guiders may mean something else by guidance, and are not read.
    """

    def __init__(self, guider: Any) -> None:
        self._known = is_stock(guider)
        self._prompted: torch.Tensor | None = None

    def reading(self, asked: Asked) -> Asked:
        """The same call, which also leaves that prediction here."""
        if not self._known:
            return asked

        def read(args: dict[str, Any]) -> torch.Tensor:
            guided = args.get("uncond") is not None
            self._prompted = args.get("cond_denoised") if guided else None
            denoised: torch.Tensor = args["denoised"]
            return denoised

        return _with(asked, lambda options: set_model_options_post_cfg_function(options, read))

    def take(self) -> torch.Tensor | None:
        """The prediction [B,C,…,H,W] of the last call; None if it had no guidance."""
        prompted, self._prompted = self._prompted, None
        return prompted


def is_stock(guider: Any) -> bool:
    """True for the guider of ComfyUI's KSampler."""
    return type(guider) is comfy.samplers.CFGGuider


def guidance_scale(guider: Any) -> float:
    """CFG of ComfyUI's own guider; 0 for others, which may mean something else by it."""
    return float(guider.cfg) if is_stock(guider) else 0.0


def has_unprompted(guider: Any) -> bool:
    """True if a run at CFG 1 has a negative conditioning, which its calls leave out."""
    return is_stock(guider) and math.isclose(guider.cfg, 1.0) and bool(guider.conds.get("negative"))


def unprompted(guider: Any, asked: Asked) -> Asked:
    """The same call with the negative conditioning alone, for a run at CFG 1."""

    def negative_alone(args: dict[str, Any]) -> list[torch.Tensor]:
        conds = [guider.conds["negative"]]
        (out,) = comfy.samplers.calc_cond_batch(
            args["model"], conds, args["input"], args["sigma"], args["model_options"]
        )
        return [out, out]

    return _with(asked, lambda options: {**options, "sampler_calc_cond_batch_function": negative_alone})


def _with(asked: Asked, change: Any) -> Asked:
    model_options = change(create_model_options_clone(asked.options.get("model_options") or {}))
    return replace(asked, options={**asked.options, "model_options": model_options})
