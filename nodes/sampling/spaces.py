"""The spaces to look and act in, built from what ComfyUI has: color factors, tiny decoders, a VAE."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import comfy.taesd.taesd
import folder_paths
import torch
from torch import Tensor

from ...asced_core import DetectionSettings, Space
from ...asced_core.detect.space import linear_rgb
from ...asced_core.maps import frames_of

AUTO_SHARE = 0.02  # share of a model call that space auto may cost
# Of ComfyUI's own formats, for versions that do not define it.
PIXELS_PER_CELL = {
    "SD_X4": 4, "SC_Prior": 42, "SC_B": 4, "Flux2": 16, "LTXV": 32, "Wan22": 16, "HunyuanImage21": 32,
    "HunyuanImage21Refiner": 16, "HunyuanVideo15": 16, "ChromaRadiance": 1,
}  # fmt: skip
NO_PICTURE = r"Audio|Music|3D|Trellis|Splat"  # in the names of ComfyUI's formats
UNET_POSITIONS = 1 / 16  # positions per cell where a U-Net has most of its weights


class UnwatchableError(Exception):
    """A run cannot be watched; the message says why."""


class VaeCodec:
    """A ComfyUI VAE as a codec, see PixelCodec. Memory and tiling are left to ComfyUI.

    Args:
        vae: ComfyUI's VAE object; it is not copied.
        model: the diffusion model, for the scale of its latents.
        reload: reloads the diffusion model, in case ComfyUI unloaded it for the VAE.
    """

    def __init__(self, vae: Any, model: Any, reload: Callable[[], None]) -> None:
        self._vae, self._model, self._reload = vae, model, reload
        self._video = getattr(vae, "latent_dim", 2) == 3

    def decode(self, latent: Tensor) -> Tensor:
        """[N,C,h,w] to [N,3,H,W], -1 to 1."""
        latent = self._model.process_latent_out(latent.float())
        images = self._vae.decode(latent.unsqueeze(2) if self._video else latent)
        self._reload()
        if images.ndim == 5:
            images = images.flatten(0, 1)
        return images[..., :3].movedim(-1, 1).to(latent.device, torch.float32) * 2 - 1

    def encode(self, picture: Tensor) -> Tensor:
        """[N,3,H,W] to [N,C,h,w]."""
        latent = self._vae.encode((picture.movedim(1, -1) + 1) / 2)
        self._reload()
        latent = latent.squeeze(2) if latent.ndim == 5 else latent
        return self._model.process_latent_in(latent.to(picture.device, torch.float32))


def check_has_vae(vae: Any, where: str) -> None:
    """Checks that there is a VAE.

    Args:
        vae: ComfyUI's VAE, or None.
        where: the setting that needs it.

    Raises:
        ValueError: there is none.
    """
    if vae is None:
        raise ValueError(f"{where} needs a VAE: connect the VAE of your checkpoint to the vae input.")


def check_vae(vae: Any, shape: tuple[int, ...], where: str) -> None:
    """Checks that there is a VAE and that it fits the latents.

    Args:
        vae: ComfyUI's VAE, or None.
        shape: of the latents of the run.
        where: the setting that needs it.

    Raises:
        ValueError: the VAE is missing or made for other latents.
    """
    check_has_vae(vae, where)
    channels = getattr(vae, "latent_channels", shape[1])
    if channels != shape[1]:
        raise ValueError(
            f"{where} got a VAE for latents with {channels} channels, but this model's latents have {shape[1]}: "
            "connect the VAE that belongs to the model."
        )


def is_picture(latent_format: Any) -> bool:
    """False for latents of sound and of three-dimensional shapes; the shape of a tensor does not tell them apart."""
    named = any(re.search(NO_PICTURE, kind.__name__) for kind in type(latent_format).__mro__)
    return not named and getattr(latent_format, "latent_dimensions", 2) > 1


def pixels_per_cell(latent_format: Any) -> int:
    """Side of a latent cell in image pixels.

    ComfyUI defines it from 0.9 on, but not for every format; 8 is the most common.
    """
    own = getattr(latent_format, "pixels_per_cell", None)  # of the demo models
    if own is not None:
        return int(own)
    for kind in type(latent_format).__mro__:
        if kind is comfy.latent_formats.LatentFormat:
            break
        if "spacial_downscale_ratio" in vars(kind):
            return int(vars(kind)["spacial_downscale_ratio"])
        if vars(comfy.latent_formats).get(kind.__name__) is kind and kind.__name__ in PIXELS_PER_CELL:
            return PIXELS_PER_CELL[kind.__name__]
    return int(getattr(latent_format, "spacial_downscale_ratio", 8))


def rgb_matrix(latent_format: Any) -> Tensor | None:
    """ComfyUI's own preview colors for these latents, [3, C+1]; None if it has none."""
    factors = getattr(latent_format, "latent_rgb_factors", None)
    if factors is None:
        return None
    bias = getattr(latent_format, "latent_rgb_factors_bias", None)
    return torch.tensor([*factors, [0.0, 0.0, 0.0] if bias is None else bias], dtype=torch.float32).T


def make_space(patcher: Any, shape: tuple[int, ...], settings: DetectionSettings, codec: VaeCodec | None) -> Space:
    """What the detector looks at in one run.

    Args:
        patcher: ComfyUI's ModelPatcher.
        shape: of the latents [B,C,H,W] or [B,C,T,H,W].
        settings: name the space to use.
        codec: of the VAE, needed for space vae.

    Raises:
        UnwatchableError: the model or ComfyUI lacks what the space needs.
    """
    space, latent_format = settings.space, patcher.get_model_object("latent_format")
    if settings.mode == "paper":  # its signal is the score of the state itself
        space = "latent"
    if space == "auto":
        return _best(patcher, latent_format)
    if space == "rgb":
        return _rgb(latent_format)
    if space == "taesd":
        decoder = _tiny_decoder(latent_format)
        if decoder is None:
            raise UnwatchableError(_no_decoder(latent_format))
        return Space("taesd", _view(decoder))
    if space == "vae":
        if frames_of(shape) > 1:
            raise UnwatchableError(
                "space vae works on images only, but this run makes videos; choose space latent or rgb"
            )
        assert codec is not None  # checked by make_plan
        return Space("vae", codec.decode)
    return Space()


def _best(patcher: Any, latent_format: Any) -> Space:
    """The tiny decoder's picture if it costs less than AUTO_SHARE of a model call, otherwise the cells themselves.

    Computed from the weights, never timed: the same run has to get the same space on every machine and every day.
    """
    if pixels_per_cell(latent_format) == 1:
        return Space()  # the cells are already pixels
    # Not rgb, though it costs nothing: it loses what cancels out in colors, and marks more (docs/spaces.md).
    decoder = _tiny_decoder(latent_format)
    if decoder is not None and _decoder_cost(decoder) < AUTO_SHARE * _model_cost(patcher.model.diffusion_model):
        return Space("taesd", _view(decoder))
    return Space()


def _rgb(latent_format: Any) -> Space:
    matrix, reshape = rgb_matrix(latent_format), getattr(latent_format, "latent_rgb_factors_reshape", None)
    if matrix is None:
        raise UnwatchableError(
            "ComfyUI has no preview colors for this model's latents; choose space latent, taesd or vae"
        )
    linear = linear_rgb(matrix)
    return Space("rgb", linear if reshape is None else lambda latent: linear(reshape(latent)))


def _tiny_decoder(latent_format: Any) -> Any:
    """ComfyUI's small decoder for these latents, if its file is installed."""
    name = getattr(latent_format, "taesd_decoder_name", None)
    if name is None or getattr(latent_format, "latent_dimensions", 2) != 2:  # the one for videos is another network
        return None
    file = next((f for f in folder_paths.get_filename_list("vae_approx") if f.startswith(name)), None)
    path = file and folder_paths.get_full_path("vae_approx", file)
    if not path:
        return None
    return comfy.taesd.taesd.TAESD(None, path, latent_channels=latent_format.latent_channels).eval()


def _no_decoder(latent_format: Any) -> str:
    name = getattr(latent_format, "taesd_decoder_name", None)
    if name is None or getattr(latent_format, "latent_dimensions", 2) != 2:
        return "there is no taesd decoder for this model's latents; choose space latent, rgb or vae"
    return f"space taesd needs models/vae_approx/{name}.safetensors (or .pth); download it, or choose space auto"


def _view(decoder: Any) -> Callable[[Tensor], Tensor]:
    """A small decoder as a view; its weights move to the device on first use, as in ComfyUI's previews."""

    def view(latent: Tensor) -> Tensor:
        return decoder.to(latent.device).decode(latent.float())

    return view


def _decoder_cost(decoder: Any) -> float:
    """Multiplications per latent cell."""
    total, area = 0, 1
    for module in decoder.taesd_decoder.modules():
        if isinstance(module, torch.nn.Upsample):
            area *= int(module.scale_factor) ** 2  # type: ignore[arg-type]
        elif isinstance(module, torch.nn.Conv2d):
            total += module.weight.numel() * area
    return total


def _model_cost(model: torch.nn.Module) -> float:
    """Approximate multiplications of a model call per latent cell: weights times positions."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    patch = getattr(model, "patch_size", None)
    side = patch[-1] if isinstance(patch, (tuple, list)) else patch
    return weights * (1 / int(side) ** 2 if side else UNET_POSITIONS)
