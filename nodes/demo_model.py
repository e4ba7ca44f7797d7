"""ASCED_DemoModel: the embedded hand model, so that everything runs with no download."""

from __future__ import annotations

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
import torch
from comfy_api.latest import io

from ..demo.hand_unet import BETA_END, BETA_START, CLASSES, NULL_CLASS, STEPS, HandUNet

WEIGHTS = Path(__file__).parent.parent / "demo" / "hands64.safetensors"
IN_TURN = "each in turn"
LABEL = "asced_label"


class _PixelFormat(comfy.latent_formats.LatentFormat):
    """The state is the image itself, -1 to 1."""

    latent_channels = 3
    spacial_downscale_ratio = 1
    latent_rgb_factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]  # noqa: RUF012 - the host's form


class _HandConfig(comfy.supported_models_base.BASE):
    unet_config: dict[str, Any] = {"in_channels": 3, "adm_in_channels": None}  # noqa: RUF012 - the host's form
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012
    sampling_settings = {  # noqa: RUF012
        "beta_schedule": "sqrt_linear",  # what the host calls plain linear betas
        "linear_start": BETA_START,
        "linear_end": BETA_END,
        "timesteps": STEPS,
    }
    latent_format = _PixelFormat
    memory_usage_factor = 1.0


class _HandModel(comfy.model_base.BaseModel):
    """Hands the digit of the conditioning on to the network."""

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out = super().extra_conds(**kwargs)
        out.pop("c_crossattn", None)  # a placeholder that the host's conditioning needs
        label = kwargs.get(LABEL, torch.tensor([NULL_CLASS]))
        out["y"] = comfy.conds.CONDRegular(label)
        return out


def load_model() -> Any:
    """The hand model as the host's ModelPatcher.

    Raises:
        FileNotFoundError: the weights are missing.
    """
    if not WEIGHTS.is_file():
        raise FileNotFoundError(f"The demo model's weights are missing: {WEIGHTS.name} belongs into {WEIGHTS.parent}.")
    offload = comfy.model_management.unet_offload_device()
    model = _HandModel(_HandConfig(_HandConfig.unet_config), device=offload, unet_model=HandUNet)
    model.load_model_weights({k: v.float() for k, v in comfy.utils.load_torch_file(str(WEIGHTS)).items()})
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def conditioning(labels: list[int]) -> list[Any]:
    """CONDITIONING for these digits, taken in turn by the images of a batch."""
    return [[torch.zeros(1, 1, 1), {LABEL: torch.tensor(labels)}]]


class ASCED_DemoModel(io.ComfyNode):
    """Hands that show a digit, 64 x 64 pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_DemoModel",
            display_name="ASCED Demo Model",
            category="ASCED",
            description="A small model of hands that show a digit: 64x64 pixels, nothing to download. "
            "Use it with an Empty Latent Image of 512x512 and a cfg of about 2.",
            inputs=[
                io.Combo.Input(
                    "digit",
                    options=[IN_TURN, *(str(d) for d in range(CLASSES))],
                    default=IN_TURN,
                    tooltip="The digit that the hand shows; in turn, the images of a batch show 0 to 9.",
                )
            ],
            outputs=[
                io.Model.Output("model", display_name="MODEL", tooltip="For ASCED KSampler, or any KSampler."),
                io.Vae.Output("vae", display_name="VAE", tooltip="For VAE Decode; this model works on pixels."),
                io.Conditioning.Output("positive", display_name="positive", tooltip="The digit."),
                io.Conditioning.Output("negative", display_name="negative", tooltip="No digit, for guidance."),
            ],
        )

    @classmethod
    def execute(cls, digit: str) -> io.NodeOutput:
        labels = list(range(CLASSES)) if digit == IN_TURN else [int(digit)]
        vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
        return io.NodeOutput(load_model(), vae, conditioning(labels), conditioning([NULL_CLASS]))


NODES = [ASCED_DemoModel]
