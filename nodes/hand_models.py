"""The embedded hand models as ComfyUI models. They ship with the pack, so every node runs without a download."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch

from ..demo.hand_unet import BETA_END, BETA_START, LATENT, NULL_CLASS, SCALED_LINEAR, STEPS, HandUNet
from ..demo.latent_space import AUTOENCODER, CHANNELS, DOWNSCALE, FORMAT_KEYS

DEMO = Path(__file__).parent.parent / "demo"
PIXEL_UNET, LATENT_UNET = "hands64.safetensors", "latent_unet.safetensors"
AUTOENCODER_FILE = "latent_autoencoder.safetensors"
TINY_DECODERS = DEMO / "vae_approx"
LABEL = "asced_label"
Load = Callable[[], tuple[Any, Any]]


class _PixelFormat(comfy.latent_formats.LatentFormat):
    """The latent is the image itself, -1 to 1.

    The cell size has its own attribute name: newer ComfyUI versions scale an Empty Latent Image by theirs, and the
    same graph would make images eight times the size.
    """

    latent_channels = 3
    pixels_per_cell = 1
    latent_rgb_factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]  # noqa: RUF012 - as in ComfyUI


class _LatentFormat(comfy.latent_formats.LatentFormat):
    """The autoencoder's cells, scaled to unit spread; see ``demo/latent_space.py``."""

    latent_channels = CHANNELS
    pixels_per_cell = DOWNSCALE
    taesd_decoder_name = "asced_hands_decoder"

    def __init__(self, scale: torch.Tensor, rgb_factors: torch.Tensor, rgb_bias: torch.Tensor) -> None:
        self.scale_factor = float(scale)
        self.latent_rgb_factors = rgb_factors.float().tolist()
        self.latent_rgb_factors_bias = rgb_bias.float().tolist()


class _HandConfig(comfy.supported_models_base.BASE):
    unet_config: dict[str, Any] = {"in_channels": 3, "adm_in_channels": None}  # noqa: RUF012 - as in ComfyUI
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012
    sampling_settings = {  # noqa: RUF012
        "beta_schedule": "sqrt_linear",  # ComfyUI's name for plain linear betas
        "linear_start": BETA_START,
        "linear_end": BETA_END,
        "timesteps": STEPS,
    }
    latent_format = _PixelFormat
    memory_usage_factor = 1.0


class _LatentHandConfig(_HandConfig):
    unet_config: dict[str, Any] = {**LATENT, "in_channels": CHANNELS, "adm_in_channels": None}  # noqa: RUF012
    sampling_settings = {  # noqa: RUF012
        "beta_schedule": "linear",  # ComfyUI's name for betas with linear square roots
        "linear_start": SCALED_LINEAR[0],
        "linear_end": SCALED_LINEAR[1],
        "timesteps": STEPS,
    }


class _HandModel(comfy.model_base.BaseModel):
    """Passes the digit in the conditioning to the network."""

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out = super().extra_conds(**kwargs)
        out.pop("c_crossattn", None)  # a placeholder that ComfyUI's conditioning needs
        label = kwargs.get(LABEL, torch.tensor([NULL_CLASS]))
        out["y"] = comfy.conds.CONDRegular(label)
        return out


def _load(name: str) -> dict[str, torch.Tensor]:
    """Loads weights from the demo folder as float32.

    Raises:
        FileNotFoundError: the file is missing.
    """
    path = DEMO / name
    if not path.is_file():
        raise FileNotFoundError(
            f"The demo model's weights are missing: {name} should be in {DEMO}. Reinstall the pack."
        )
    return {k: v.float() for k, v in comfy.utils.load_torch_file(str(path)).items()}


def _patcher(config: Any, weights: str) -> Any:
    offload = comfy.model_management.unet_offload_device()
    model = _HandModel(config, device=offload, unet_model=HandUNet)
    model.load_model_weights(_load(weights))
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def load_pixel_model() -> tuple[Any, Any]:
    """The pixel model as a ComfyUI ModelPatcher, and ComfyUI's VAE that passes pixels through unchanged."""
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    return _reloadable(load_pixel_model, _patcher(_HandConfig(_HandConfig.unet_config), PIXEL_UNET), vae)


def load_latent_model() -> tuple[Any, Any]:
    """The latent model as a ComfyUI ModelPatcher, and its autoencoder as a ComfyUI VAE."""
    state = _load(AUTOENCODER_FILE)
    config = _LatentHandConfig(_LatentHandConfig.unet_config)
    config.latent_format = _LatentFormat(*(state.pop(key) for key in FORMAT_KEYS))
    vae = comfy.sd.VAE(sd=state, config={"params": copy.deepcopy(AUTOENCODER)}, dtype=torch.float32)
    vae.downscale_ratio = vae.upscale_ratio = DOWNSCALE
    # where ComfyUI looks for the small decoders of its previews
    folder_paths.add_model_folder_path("vae_approx", str(TINY_DECODERS))
    return _reloadable(load_latent_model, _patcher(config, LATENT_UNET), vae)


def _reloadable(load: Load, model: Any, vae: Any) -> tuple[Any, Any]:
    """Tells ComfyUI how to get fresh weights for another device; versions without multi-GPU cloning do not ask."""
    for place, patcher in enumerate((model, getattr(vae, "patcher", None))):  # ComfyUI 0.3.52: none for pixels
        if hasattr(patcher, "cached_patcher_init"):
            patcher.cached_patcher_init = (_fresh_patchers, (load,), place)
    return model, vae


def _fresh_patchers(load: Load, disable_dynamic: bool = False) -> tuple[Any, Any]:
    """The patchers of a model and its VAE, newly loaded. ComfyUI passes ``disable_dynamic``; these never are."""
    model, vae = load()
    return model, vae.patcher


def conditioning(labels: list[int]) -> list[Any]:
    """CONDITIONING for these digits; the images of a batch take them in turn."""
    return [[torch.zeros(1, 1, 1), {LABEL: torch.tensor(labels)}]]
