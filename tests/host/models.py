"""Models for the host tests, all around the embedded hand model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _FlowNet(nn.Module):
    """The hand network as a rectified-flow model, exactly: ``x / (1 - s)`` is its state at ``sigma = s / (1 - s)``."""

    def __init__(self, eps_net: nn.Module) -> None:
        super().__init__()
        self.net = eps_net
        self.dtype = eps_net.dtype

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        s = (timesteps / 1000).clamp(1e-4, 0.9999)
        sigma = s / (1 - s)
        levels = ((1 - self.net.abar) / self.net.abar).sqrt()
        nearest = (levels.log()[None] - sigma.log()[:, None]).abs().argmin(1)
        s, sigma = s[:, None, None, None], sigma[:, None, None, None]
        clean_scale = (1 - s) * (sigma**2 + 1).sqrt()
        eps = self.net(x / clean_scale, nearest, y)
        x0 = x / (1 - s) - sigma * eps
        return (x - x0) / s


def as_flow(model: Any) -> Any:
    """A ModelPatcher that samples the hands as a flow model."""
    import comfy.model_base
    import comfy.model_patcher

    base = type(model.model)
    flow = base(model.model.model_config, model_type=comfy.model_base.ModelType.FLOW, unet_model=type_of(model))
    flow.diffusion_model = _FlowNet(model.model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(flow, model.load_device, model.offload_device)


def type_of(model: Any) -> type[nn.Module]:
    return type(model.model.diffusion_model)


def with_artifact(model: Any, images: tuple[int, ...] = (0,), size: float = 0.2, onset: float = 0.35) -> Any:
    """A clone whose predictions get a square from one noise level on, in some images of the batch.

    Uses the host's own hook behind guidance, as other packs do. The square appears between T_d and T_c and
    stays: what the paper calls a score trap.
    """
    sampling = model.get_model_object("model_sampling")
    level = float(sampling.percent_to_sigma(onset))

    def plant(args: dict[str, Any]) -> Tensor:
        denoised = args["denoised"]
        if float(args["sigma"].flatten()[0]) > level:
            return denoised
        side = max(2, round(denoised.shape[-1] * size))
        top = denoised.shape[-2] // 3
        denoised = denoised.clone()
        for image in images:
            if image < len(denoised):
                denoised[image, :, top : top + side, top : top + side] = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
        return denoised

    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(plant)
    return clone
