"""Models for the host tests, all built on the embedded hand model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Where the planted artifact appears, as a share of the schedule: in the later half of a default window, wherever the
# steps of a sampler fall. What does not change over that half does not count as a lasting change.
ONSET = 0.4
SMALL = Path(__file__).with_name("small_hands.safetensors")


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


def smaller(model: Any) -> Any:
    """A ModelPatcher with a small network in the place of the embedded one; see demo/train.py for its training."""
    import comfy.model_patcher
    from asced.demo.hand_unet import HandUNet
    from safetensors.torch import load_file

    net = HandUNet(channels=16, mult=(1, 2), operations=comfy.ops.disable_weight_init)
    net.load_state_dict({name: weights.float() for name, weights in load_file(SMALL).items()})
    net.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # faster on a CPU
    base = copy.copy(model.model)
    base._modules = {**base._modules, "diffusion_model": net}
    return comfy.model_patcher.ModelPatcher(base, model.load_device, model.offload_device)


def as_flow(model: Any) -> Any:
    """A ModelPatcher that samples the hands as a flow model."""
    import comfy.model_base
    import comfy.model_patcher

    base = type(model.model)
    flow = base(model.model.model_config, model_type=comfy.model_base.ModelType.FLOW, unet_model=type_of(model))
    flow.diffusion_model = _FlowNet(model.model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(flow, model.load_device, model.offload_device)


class _DiscreteNet(nn.Module):
    """The hand network as a model of another target on the same noise levels, exactly: ``v``, ``x0`` or EDM's ``F``.

    ComfyUI passes ``x / sqrt(sigma^2 + 1)``, the VP state (sigma_data 1).
    """

    def __init__(self, eps_net: nn.Module, target: str) -> None:
        super().__init__()
        self.net, self.target, self.dtype = eps_net, target, eps_net.dtype

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        if self.target == "edm":  # its timesteps are log(sigma) / 4
            levels = ((1 - self.net.abar) / self.net.abar).sqrt()
            timesteps = (levels.log()[None] - 4 * timesteps[:, None]).abs().argmin(1)
        eps = self.net(x, timesteps, y)
        abar = self.net.abar[timesteps.long()].view(-1, 1, 1, 1)
        x0 = (x - (1 - abar).sqrt() * eps) / abar.sqrt()
        v = abar.sqrt() * eps - (1 - abar).sqrt() * x0
        return {"v": v, "x0": x0, "edm": -v}[self.target]


def as_target(model: Any, core: Any, target: str) -> Any:
    """A ModelPatcher that samples the hands as a model of target ``v``, ``x0`` or ``edm``, with ComfyUI's own nodes."""
    clone = model.clone()
    base = copy.copy(model.model)
    base._modules = dict(base._modules)
    base.diffusion_model = _DiscreteNet(model.model.diffusion_model, target)
    clone.model = base
    if target == "edm":
        edm = core("ModelSamplingContinuousEDM", model=clone, sampling="edm", sigma_max=150.0, sigma_min=0.01)[0]
        edm.get_model_object("model_sampling").set_parameters(0.01, 150.0, 1.0)
        return edm
    name = {"v": "v_prediction", "x0": "x0"}[target]
    return core("ModelSamplingDiscrete", model=clone, sampling=name, zsnr=False)[0]


def type_of(model: Any) -> type[nn.Module]:
    return type(model.model.diffusion_model)


def with_artifact(
    model: Any,
    images: tuple[int, ...] = (0,),
    size: float = 0.2,
    onset: float = ONSET,
    strength: float = 1.0,
    alike: bool = False,
) -> Any:
    """A clone whose predictions get a square from one noise level on, in some images of the batch.

    Uses ComfyUI's own post-CFG hook, as other packs do. The square appears between T_d and T_c and stays: what the
    paper calls a score trap. Its channels differ in sign, unless they are ``alike``.
    """
    sampling = model.get_model_object("model_sampling")
    level = float(sampling.percent_to_sigma(onset))

    def plant(args: dict[str, Any]) -> Tensor:
        denoised = args["denoised"]
        if denoised.ndim not in (4, 5) or float(args["sigma"].flatten()[0]) > level:
            return denoised
        side = max(2, round(denoised.shape[-1] * size))
        top = denoised.shape[-2] // 3
        sign = torch.tensor([1.0, 1.0 if alike else -1.0]).repeat(denoised.shape[1])[: denoised.shape[1]]
        sign = sign.view(-1, *[1] * (denoised.ndim - 2))
        denoised = denoised.clone()
        for image in images:
            if image < len(denoised):
                denoised[image, ..., top : top + side, top : top + side] = strength * sign
        return denoised

    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(plant)
    return clone


UNET = {
    "image_size": 32, "model_channels": 32, "num_res_blocks": [1, 1], "channel_mult": [1, 2], "num_heads": 2,
    "use_spatial_transformer": True, "transformer_depth": [0, 1], "transformer_depth_middle": 1, "context_dim": 16,
    "legacy": False, "use_linear_in_transformer": False,
}  # fmt: skip


def _randomized(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.requires_grad_(False).copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return module


def tiny_unet(model: Any, channels: int = 3) -> Any:
    """ComfyUI's own UNet with attention in the middle and random weights, for attention patches."""
    import comfy.model_base
    import comfy.model_patcher
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    own = {"in_channels": channels, "out_channels": channels, "transformer_depth_output": [0, 0, 1, 1]}
    config = type(model.model.model_config)({**UNET, **own, "dtype": torch.float32})
    base = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.EPS, unet_model=UNetModel)
    _randomized(base.diffusion_model)
    return comfy.model_patcher.ModelPatcher(base, model.load_device, model.offload_device)


def tiny_controlnet(model: Any, channels: int = 3) -> Any:
    """ComfyUI's own ControlNet for ``tiny_unet``, random weights."""
    import comfy.cldm.cldm
    import comfy.controlnet

    net = comfy.cldm.cldm.ControlNet(in_channels=channels, hint_channels=3, **UNET)
    return comfy.controlnet.ControlNet(_randomized(net), load_device=model.load_device)


def text(width: int = 16, seed: int = 0) -> Any:
    """Conditioning as a text encoder would return it."""
    return [[torch.randn(1, 4, width, generator=torch.Generator().manual_seed(seed)), {}]]
