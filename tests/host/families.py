"""Tiny real checkpoints of several model families: random weights, identified by ComfyUI's own loader."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [1],
    "channel_mult": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": -2,
    "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None, "use_temporal_resblock": False,
    "use_temporal_attention": False, "use_checkpoint": False,
}  # fmt: skip
_HUNYUAN = {
    "image_model": "hunyuan_video", "vec_in_dim": None, "axes_dim": [64, 64], "meanflow": False, "meanflow_sum": False,
    "context_in_dim": 64,
    "hidden_size": 128, "mlp_ratio": 4.0, "num_heads": 1, "depth": 1, "depth_single_blocks": 1, "theta": 256,
    "qkv_bias": True, "byt5": False, "guidance_embed": False, "use_cond_type_embedding": False, "vision_in_dim": None,
}  # fmt: skip
# what distinguishes SD2's v-prediction models from its eps models: a bias of the full-size network far from zero
_V_MARK = {"output_blocks.11.1.transformer_blocks.0.norm1.bias": torch.tensor([-1.0, 1.0])}


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        config: name of ComfyUI's model config.
        unet: its network, as small as the loader accepts.
        latent: channels and sizes of a small latent.
        text: width of the conditioning.
        pooled: width of the pooled conditioning, 0 for none.
        extra: further weights in the file.
    """

    config: str
    unet: dict[str, Any]
    latent: tuple[int, ...]
    text: int
    pooled: int = 0
    extra: dict[str, Tensor] = field(default_factory=dict)

    def conditioning(self, seed: int = 0) -> Any:
        """As its text encoder would return it."""
        generator = torch.Generator().manual_seed(seed)
        more = {"pooled_output": torch.randn(1, self.pooled, generator=generator)} if self.pooled else {}
        return [[torch.randn(1, 8, self.text, generator=generator), more]]

    def empty(self, batch: int) -> dict[str, Any]:
        """An empty LATENT."""
        return {"samples": torch.zeros(batch, *self.latent)}


FAMILIES = {
    "SD 1.5, eps": Family("SD15", {**_UNET, "context_dim": 768, "use_linear_in_transformer": False}, (4, 12, 12), 768),
    "SD 2, v": Family(
        "SD20", {**_UNET, "context_dim": 1024, "use_linear_in_transformer": True}, (4, 12, 12), 1024, extra=_V_MARK
    ),
    "SD 3, flow": Family(
        "SD3",
        {
            "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 1, "input_size": None,
            "adm_in_channels": 64, "num_patches": 1024, "pos_embed_max_size": 32, "pos_embed_scaling_factor": None,
            "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 64}},
            "x_block_self_attn_layers": [],
        },
        (16, 32, 32), 64, 64,
    ),
    "HunyuanImage 2.1, flow": Family(
        "HunyuanImage21", {**_HUNYUAN, "in_channels": 64, "patch_size": [1, 1], "out_channels": 64}, (64, 20, 20), 64
    ),
    "HunyuanVideo, flow": Family(
        "HunyuanVideo",
        {**_HUNYUAN, "in_channels": 16, "patch_size": [1, 2, 2], "out_channels": 16, "axes_dim": [16, 56, 56],
         "vec_in_dim": 768, "guidance_embed": True},
        (16, 3, 16, 16), 64, 768,
    ),
    "Wan 2.1 video, flow": Family(
        "WAN21_T2V",
        {
            "image_model": "wan2.1", "dim": 128, "out_dim": 16, "num_heads": 1, "ffn_dim": 256, "num_layers": 1,
            "patch_size": (1, 2, 2), "freq_dim": 256, "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True,
            "eps": 1e-6, "in_dim": 16, "model_type": "t2v",
        },
        (16, 3, 16, 16), 4096,
    ),
}  # fmt: skip


def is_known(family: Family) -> bool:
    """False if this ComfyUI lacks the family, or does not accept a network this small."""
    import comfy.supported_models
    from comfy.ldm.hunyuan_video.model import HunyuanVideoParams

    takes_small = family.unet.get("image_model") != "hunyuan_video" or any(
        setting.name == "meanflow" for setting in fields(HunyuanVideoParams)
    )
    return hasattr(comfy.supported_models, family.config) and takes_small


def load_family(name: str, folder: Path) -> Any:
    """Writes a family's checkpoint and loads it as users do, with ComfyUI's UNETLoader; returns a ModelPatcher."""
    import folder_paths
    from safetensors.torch import save_file

    import nodes

    file = folder / f"{FAMILIES[name].config}.safetensors"
    if not file.exists():
        folder_paths.add_model_folder_path("diffusion_models", str(folder))
        save_file(_weights(FAMILIES[name]), file)
    return nodes.UNETLoader().load_unet(file.name, "default")[0]


def _weights(family: Family) -> dict[str, Tensor]:
    import comfy.supported_models
    from comfy.ldm.hunyuan_video.model import HunyuanVideoParams

    unet = dict(family.unet)
    if unet.get("image_model") == "hunyuan_video":  # newer ComfyUI versions need settings that older ones do not know
        known = {"image_model", *(setting.name for setting in fields(HunyuanVideoParams))}
        unet = {key: value for key, value in unet.items() if key in known}
    network = getattr(comfy.supported_models, family.config)(unet).get_model({}).diffusion_model
    generator = torch.Generator().manual_seed(0)
    weights = {
        key: torch.randn(value.shape, generator=generator) * 0.02 + ("norm" in key and key.endswith("weight"))
        for key, value in network.state_dict().items()
    }
    return {key: value.half().contiguous() for key, value in (weights | family.extra).items()}
