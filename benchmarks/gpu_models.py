"""The architectures that ``python -m benchmarks.gpu`` measures, as ComfyUI's loader finds them in checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "use_spatial_transformer": True,
    "legacy": False, "adm_in_channels": None, "use_temporal_attention": False, "use_temporal_resblock": False,
    "use_checkpoint": False,
}  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """An architecture and what is sampled with it.

    Attributes:
        title: for the table, with the size of the picture.
        config: name of ComfyUI's model config.
        unet: the network as ComfyUI's loader would find it in the published checkpoint.
        latent: shape of a latent without the batch.
        forms: kinds of weights, and backends of torch.compile, which take the first kind of weights.
        text: number and width of the tokens.
        pooled: width of the pooled conditioning, 0 for none.
        steps, cfg: of a run.
        drafts: number of drafts, of which one is finished.
        blocks: settings of the network that count its blocks; where memory is short, there are fewer of them.
    """

    title: str
    config: str
    unet: dict[str, Any]
    latent: tuple[int, ...]
    forms: tuple[str, ...]
    text: tuple[int, int]
    pooled: int = 0
    steps: int = 20
    cfg: float = 7.0
    drafts: int = 4
    blocks: tuple[str, ...] = ()


MODELS = {
    "tiny": Spec(
        "tiny U-Net, 64 px", "SD15",
        {**_UNET, "num_res_blocks": [1], "channel_mult": [1], "transformer_depth": [1], "transformer_depth_middle": -2,
         "transformer_depth_output": [1, 1], "use_linear_in_transformer": False, "context_dim": 768},
        (4, 8, 8), ("fp32", "inductor", "cudagraphs"), (8, 768), steps=10, drafts=2,
    ),
    "sd15": Spec(
        "SD 1.5 U-Net, 512 px", "SD15",
        {**_UNET, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4], "context_dim": 768,
         "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
         "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "use_linear_in_transformer": False},
        (4, 64, 64), ("fp16", "bf16", "fp8", "inductor", "cudagraphs"), (77, 768),
    ),
    "sdxl": Spec(
        "SDXL U-Net, 1024 px", "SDXL",
        {**_UNET, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "context_dim": 2048, "num_head_channels": 64,
         "num_classes": "sequential", "adm_in_channels": 2816, "transformer_depth": [0, 0, 2, 2, 10, 10],
         "transformer_depth_middle": 10, "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
         "use_linear_in_transformer": True},
        (4, 128, 128), ("fp16", "bf16", "fp8", "inductor", "cudagraphs"), (77, 2048), 1280,
    ),
    "flux": Spec(
        "Flux transformer, 1024 px", "Flux",
        {"image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096,
         "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38,
         "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True},
        (16, 128, 128), ("bf16", "fp8", "fp16", "inductor", "cudagraphs"), (256, 4096), 768, cfg=1.0,
        blocks=("depth", "depth_single_blocks"),
    ),
    "wan": Spec(
        "Wan 14B transformer, 832×480 px, 17 frames", "WAN21_T2V",
        {"image_model": "wan2.1", "model_type": "t2v", "dim": 5120, "out_dim": 16, "num_heads": 40, "ffn_dim": 13824,
         "num_layers": 40, "patch_size": (1, 2, 2), "freq_dim": 256, "window_size": (-1, -1), "qk_norm": True,
         "cross_attn_norm": True, "eps": 1e-6, "in_dim": 16},
        (16, 5, 60, 104), ("bf16", "fp8", "fp16", "inductor", "cudagraphs"), (512, 4096), steps=12, cfg=5.0, drafts=2,
        blocks=("num_layers",),
    ),
}  # fmt: skip
