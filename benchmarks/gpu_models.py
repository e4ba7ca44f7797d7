"""The architectures that ``python -m benchmarks.gpu`` measures, as ComfyUI's loader finds them in checkpoints."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp8": "float8_e4m3fn"}  # torch's names of weights
BACKENDS = ("inductor", "cudagraphs")  # of torch.compile
ONSET, SIDE, STRENGTH = 0.4, 0.2, 4.0  # of the planted square: share of the schedule, of the width, and of the contrast
MIXED = 0.02  # share of the network's prediction in the scene
MARK = "model answered"  # in a profiler's record, once for each model call
WEIGHT, STRIDE = 0.02, 997  # standard deviation of weights; distance of their starts in the random tensor

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
        images: at once, in a run without drafts.
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
    images: int = 1
    drafts: int = 4
    blocks: tuple[str, ...] = ()


_SDXL = Spec(
    "SDXL U-Net, 1024 px", "SDXL",
    {**_UNET, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "context_dim": 2048, "num_head_channels": 64,
     "num_classes": "sequential", "adm_in_channels": 2816, "transformer_depth": [0, 0, 2, 2, 10, 10],
     "transformer_depth_middle": 10, "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
     "use_linear_in_transformer": True},
    (4, 128, 128), ("fp16", "bf16", "fp8", "inductor", "cudagraphs"), (77, 2048), 1280,
)  # fmt: skip
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
    "sdxl": _SDXL,
    # A fast GPU waits for the program that calls it when it samples one image: with four, it is busy.
    "sdxl4": replace(_SDXL, title="SDXL U-Net, 1024 px, 4 images", images=4, forms=("fp16", "bf16")),
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


def shapes_of(spec: Spec, share: float) -> dict[str, tuple[int, ...]]:
    """The weights of a network with this share of its blocks, by name."""
    import comfy.supported_models

    fewer = {name: max(1, round(share * spec.unet[name])) for name in spec.blocks}
    config = getattr(comfy.supported_models, spec.config)({**spec.unet, **fewer})
    network = config.get_model({}, device="meta").diffusion_model
    return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}


def load(shapes: Mapping[str, tuple[int, ...]], dtype: Any) -> Any:
    """ComfyUI's ModelPatcher, from its own loader of diffusion models; the weights are parts of one random tensor.

    Args:
        shapes: of the weights, by name.
        dtype: torch's.

    Raises:
        RuntimeError: the loader does not know the network.
    """
    import comfy.sd
    import torch

    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    whole = max(sizes.values())
    stored = torch.float16 if dtype.itemsize == 1 else dtype  # the loader makes fp8 of it
    values = torch.randn(whole, generator=torch.Generator().manual_seed(0)).mul_(WEIGHT).to(stored)
    weights = {
        name: values[(start := index * STRIDE % (whole - sizes[name] + 1)) : start + sizes[name]].view(shape)
        for index, (name, shape) in enumerate(shapes.items())
    }
    model = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": dtype})
    if model is None:
        raise RuntimeError("ComfyUI's loader does not know this network")
    return model


def compiled(model: Any, backend: str) -> Any:
    """The model behind ComfyUI's node TorchCompileModel."""
    import nodes

    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))  # type: ignore[attr-defined]
    node = nodes.NODE_CLASS_MAPPINGS["TorchCompileModel"]  # type: ignore[attr-defined]
    out = getattr(node(), node.FUNCTION)(model=model, backend=backend)
    return getattr(out, "args", out)[0]


def painted(model: Any, faulty: bool) -> Any:
    """A clone that sees a still scene and a little of what the network predicts; with an artifact or without.

    The scene is computed at each call: what a patch keeps would count as the memory of a corrected run.
    """
    import torch

    level = float(model.get_model_object("model_sampling").percent_to_sigma(ONSET if faulty else 1.0))

    def paint(args: dict[str, Any]) -> Any:
        with torch.profiler.record_function(MARK):
            denoised = args["denoised"]
            shape = (1, *denoised.shape[1:])
            scene = torch.arange(math.prod(shape), device=denoised.device, dtype=torch.float32)
            scene = scene.mul_(12.9898).sin_().mul_(43758.5453).frac_().view(shape)  # looks random
            side, top = max(2, round(SIDE * shape[-1])), shape[-2] // 3
            signs = torch.arange(shape[1], device=denoised.device).remainder_(2).mul_(2).sub_(1)
            torn = scene.clone()
            torn[..., top : top + side, top : top + side] = STRENGTH * signs.view(-1, *[1] * (len(shape) - 2))
            seen = torch.where(args["sigma"].flatten()[0] <= level, torn, scene)  # decided on the device
            return seen + denoised.nan_to_num(0.0, 1.0, -1.0).clamp(-1, 1).mul_(MIXED)

    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(paint)
    return clone
