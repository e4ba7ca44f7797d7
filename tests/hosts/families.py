"""Pipelines of diffusers with random weights, one of each kind: nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

BATCH = 3
STEPS = 20
TRAINED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BETAS = {**TRAINED, "steps_offset": 1}


@dataclass(frozen=True)
class Family:
    """A way to make a pipeline and to call it.

    Attributes:
        make: makes the pipeline; a scheduler replaces its own.
        call: arguments of a call with images of 128 px, latents as result.
        sign: -1 if the pipeline turns its model's output around.
        twice: the pipeline uses only the first half of its model's output.
        modular: it is a modular pipeline, which names its result when it is called.
    """

    make: Callable[..., Any]
    call: Callable[[], dict[str, Any]] = dict
    sign: int = 1
    twice: bool = False
    modular: bool = False


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    """The same standard normal numbers every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ddim(**more: Any) -> Any:
    """The scheduler of Stable Diffusion."""
    return diffusers.DDIMScheduler(**{**BETAS, "clip_sample": False, "set_alpha_to_one": False, **more})


def flow(**more: Any) -> Any:
    """The scheduler of most newer models."""
    return diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **more})


def ready(pipe: Any) -> Any:
    """A pipeline without a progress bar, whose random networks predict small numbers."""
    pipe.set_progress_bar_config(disable=True)
    for name in ("unet", "transformer", "transformer_2"):
        if getattr(pipe, name, None) is not None:
            getattr(pipe, name).eval().requires_grad_(False)
    return pipe


def unet(channels: int = 4, **more: Any) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=channels, out_channels=4, block_out_channels=(16,), layers_per_block=1,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), cross_attention_dim=32,
        attention_head_dim=8, norm_num_groups=8, **more,
    )  # fmt: skip


def autoencoder(channels: int = 4) -> Any:
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * 4, latent_channels=channels, norm_num_groups=4, shift_factor=0.1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip


def stable_diffusion(
    scheduler: Any = None, kind: str = "StableDiffusionPipeline", channels: int = 4, vae: bool = False
) -> Any:
    return ready(getattr(diffusers, kind)(
        vae=autoencoder() if vae else None, text_encoder=None, tokenizer=None, unet=unet(channels),
        scheduler=scheduler or ddim(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ))  # fmt: skip


def prompts(**more: Any) -> dict[str, Any]:
    """Embeddings of a prompt and of a negative one."""
    return {
        "prompt_embeds": noise(BATCH, 7, 32, seed=2), "negative_prompt_embeds": noise(BATCH, 7, 32, seed=3),
        "height": 128, "width": 128, "guidance_scale": 4.0, **more,
    }  # fmt: skip


def pooled(**more: Any) -> dict[str, Any]:
    return prompts(
        pooled_prompt_embeds=noise(BATCH, 32, seed=4), negative_pooled_prompt_embeds=noise(BATCH, 32, seed=5), **more
    )


def masked(**more: Any) -> dict[str, Any]:
    mask = torch.ones(BATCH, 7, dtype=torch.bool)
    return prompts(prompt_attention_mask=mask, negative_prompt_attention_mask=mask, **more)


def sdxl(scheduler: Any = None) -> Any:
    network = unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=32 + 48,
    )  # fmt: skip
    return ready(diffusers.StableDiffusionXLPipeline(
        vae=None, text_encoder=None, text_encoder_2=text_width(), tokenizer=None, tokenizer_2=None, unet=network,
        scheduler=scheduler or diffusers.EulerDiscreteScheduler(**BETAS), add_watermarker=False,
    ))  # fmt: skip


def text_width() -> Any:
    """A text encoder of which only the width is asked."""
    return CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, projection_dim=32,
    ))  # fmt: skip


def sd3(scheduler: Any = None, kind: str = "StableDiffusion3Pipeline", vae: bool = False) -> Any:
    torch.manual_seed(0)
    network = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
        pos_embed_max_size=16,
    )  # fmt: skip
    return ready(getattr(diffusers, kind)(
        transformer=network, scheduler=scheduler or flow(), vae=autoencoder() if vae else None, text_encoder=None,
        tokenizer=None, text_encoder_2=None, tokenizer_2=None, text_encoder_3=None, tokenizer_3=None,
    ))  # fmt: skip


def flux(scheduler: Any = None, kind: str = "FluxPipeline", vae: bool = False, inside: int = 16) -> Any:
    torch.manual_seed(0)
    network = diffusers.FluxTransformer2DModel(
        in_channels=inside, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )  # fmt: skip
    return ready(getattr(diffusers, kind)(
        scheduler=scheduler or flow(use_dynamic_shifting=True), vae=autoencoder() if vae else None, text_encoder=None,
        tokenizer=None, text_encoder_2=None, tokenizer_2=None, transformer=network,
    ))  # fmt: skip


def distilled(**more: Any) -> dict[str, Any]:
    return {
        "prompt_embeds": noise(BATCH, 7, 32, seed=2), "pooled_prompt_embeds": noise(BATCH, 32, seed=4),
        "height": 128, "width": 128, "guidance_scale": 4.0, **more,
    }  # fmt: skip


def pixart(scheduler: Any = None) -> Any:
    torch.manual_seed(0)
    network = diffusers.PixArtTransformer2DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
        cross_attention_dim=32, sample_size=16, caption_channels=32, use_additional_conditions=False,
    )  # fmt: skip
    return ready(diffusers.PixArtAlphaPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=network,
        scheduler=scheduler or diffusers.DPMSolverMultistepScheduler(),
    ))  # fmt: skip


def sana(scheduler: Any = None) -> Any:
    torch.manual_seed(0)
    network = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=4, attention_head_dim=8, num_layers=1,
        num_cross_attention_heads=4, cross_attention_head_dim=8, cross_attention_dim=32, caption_channels=32,
        sample_size=16,
    )  # fmt: skip
    own = diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")
    return ready(diffusers.SanaPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=network, scheduler=scheduler or own
    ))  # fmt: skip


def wan(scheduler: Any = None) -> Any:
    torch.manual_seed(0)
    network = diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=32, freq_dim=16,
        ffn_dim=32, num_layers=1, rope_max_seq_len=32,
    )  # fmt: skip
    own = diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")
    return ready(diffusers.WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=network, scheduler=scheduler or own
    ))  # fmt: skip


def ltx(scheduler: Any = None) -> Any:
    torch.manual_seed(0)
    network = diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=4, attention_head_dim=8, cross_attention_dim=32,
        num_layers=1, caption_channels=32,
    )  # fmt: skip
    return ready(diffusers.LTXPipeline(
        scheduler=scheduler or flow(use_dynamic_shifting=True), vae=None, text_encoder=None, tokenizer=None,
        transformer=network,
    ))  # fmt: skip


def qwen(scheduler: Any = None, kind: str = "QwenImagePipeline") -> Any:
    torch.manual_seed(0)
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return ready(getattr(diffusers, kind)(
        scheduler=scheduler or flow(use_dynamic_shifting=True), vae=None, text_encoder=None, tokenizer=None,
        transformer=network,
    ))  # fmt: skip


def qwen_prompts() -> dict[str, Any]:
    given = masked(true_cfg_scale=4.0)
    names = {
        "prompt_attention_mask": "prompt_embeds_mask",
        "negative_prompt_attention_mask": "negative_prompt_embeds_mask",
    }
    return {names.get(key, key): value for key, value in given.items() if key != "guidance_scale"}


def lumina(scheduler: Any = None) -> Any:
    torch.manual_seed(0)
    network = diffusers.Lumina2Transformer2DModel(
        sample_size=16, in_channels=4, hidden_size=24, num_layers=1, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 4, 4), axes_lens=(32, 32, 32), cap_feat_dim=32,
    )  # fmt: skip
    return ready(diffusers.Lumina2Pipeline(
        transformer=network, scheduler=scheduler or flow(shift=6.0), vae=None, text_encoder=None, tokenizer=None
    ))  # fmt: skip


def aura(scheduler: Any = None) -> Any:
    torch.manual_seed(0)
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=16, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, out_channels=4,
        pos_embed_max_size=256,
    )  # fmt: skip
    return ready(diffusers.AuraFlowPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=network, scheduler=scheduler or flow(shift=1.73)
    ))  # fmt: skip


def cogvideo(scheduler: Any = None) -> Any:
    torch.manual_seed(0)
    network = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=16,
        text_embed_dim=32, num_layers=1, sample_width=16, sample_height=16, sample_frames=9, max_text_seq_length=7,
        use_rotary_positional_embeddings=True,
    )  # fmt: skip
    own = diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True,
                                           snr_shift_scale=1.0, timestep_spacing="trailing")  # fmt: skip
    return ready(diffusers.CogVideoXPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=network, scheduler=scheduler or own
    ))  # fmt: skip


def chroma(scheduler: Any = None) -> Any:
    torch.manual_seed(0)
    network = diffusers.ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=16, approximator_hidden_dim=16,
        approximator_layers=1,
    )  # fmt: skip
    return ready(diffusers.ChromaPipeline(
        scheduler=scheduler or flow(use_dynamic_shifting=True), vae=None, text_encoder=None, tokenizer=None,
        transformer=network,
    ))  # fmt: skip


def modular(blocks: str, **components: Any) -> Any:
    """A modular pipeline of the blocks that denoise."""
    module, name = blocks.rsplit(".", 1)
    pipe = getattr(importlib.import_module(f"diffusers.modular_pipelines.{module}"), name)().init_pipeline()
    pipe.update_components(**components)
    return ready(pipe)


def modular_sdxl(scheduler: Any = None) -> Any:
    parts = sdxl(scheduler)
    blocks = "stable_diffusion_xl.modular_blocks_stable_diffusion_xl.StableDiffusionXLCoreDenoiseStep"
    return modular(blocks, unet=parts.unet, scheduler=parts.scheduler)


def modular_flux(scheduler: Any = None) -> Any:
    parts = flux(scheduler)
    return modular(
        "flux.modular_blocks_flux.FluxCoreDenoiseStep", transformer=parts.transformer, scheduler=parts.scheduler
    )


def for_blocks(given: dict[str, Any]) -> dict[str, Any]:
    """Without what a guider knows in a modular pipeline."""
    return {key: value for key, value in given.items() if key != "guidance_scale"}


def start_image() -> dict[str, Any]:
    return {"image": noise(BATCH, 3, 128, 128, seed=6).clamp(-1, 1) / 2 + 0.5}


def without_size(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in ("height", "width")}


def inpaint_mask() -> torch.Tensor:
    mask = torch.zeros(BATCH, 1, 128, 128)
    mask[..., 16:112, 16:112] = 1
    return mask


VIDEO = {"num_frames": 9}
FAMILIES: dict[str, Family] = {
    "Stable Diffusion 1.5": Family(stable_diffusion, prompts),
    "Stable Diffusion 1.5, guidance rescale": Family(stable_diffusion, lambda: prompts(guidance_rescale=0.7)),
    "Stable Diffusion 1.5, no guidance": Family(
        stable_diffusion,
        lambda: {"prompt_embeds": noise(BATCH, 7, 32), "height": 128, "width": 128, "guidance_scale": 1.0},
    ),
    "Stable Diffusion 1.5, img2img": Family(
        lambda scheduler=None: stable_diffusion(scheduler, "StableDiffusionImg2ImgPipeline", vae=True),
        lambda: without_size(prompts(strength=0.8, **start_image())),
    ),
    "Stable Diffusion 1.5, inpaint": Family(
        lambda scheduler=None: stable_diffusion(scheduler, "StableDiffusionInpaintPipeline", vae=True),
        lambda: prompts(strength=1.0, mask_image=inpaint_mask(), **start_image()),
    ),
    "Stable Diffusion 1.5, inpaint model": Family(
        lambda scheduler=None: stable_diffusion(scheduler, "StableDiffusionInpaintPipeline", 9, vae=True),
        lambda: prompts(strength=1.0, mask_image=inpaint_mask(), **start_image()),
    ),
    "Stable Diffusion XL": Family(sdxl, pooled),
    "Stable Diffusion 3": Family(sd3, pooled),
    "Stable Diffusion 3, img2img": Family(
        lambda scheduler=None: sd3(scheduler, "StableDiffusion3Img2ImgPipeline", vae=True),
        lambda: without_size(pooled(strength=0.8, **start_image())),
    ),
    "Flux": Family(flux, distilled),
    "Flux, true CFG": Family(flux, lambda: pooled(true_cfg_scale=3.0)),
    "Flux, img2img": Family(
        lambda scheduler=None: flux(scheduler, "FluxImg2ImgPipeline", vae=True),
        lambda: distilled(strength=0.8, **start_image()),
    ),
    "Flux Kontext": Family(
        lambda scheduler=None: flux(scheduler, "FluxKontextPipeline", vae=True),
        lambda: distilled(_auto_resize=False, max_area=128 * 128, **start_image()),
        twice=True,
    ),
    "PixArt-α": Family(pixart, lambda: masked(use_resolution_binning=False, negative_prompt=None), twice=True),
    "Sana": Family(sana, lambda: masked(height=512, width=512, use_resolution_binning=False, negative_prompt=None)),
    "Lumina 2": Family(lumina, masked, sign=-1),
    "AuraFlow": Family(aura, masked),
    "Chroma": Family(chroma, masked),
    "Qwen-Image": Family(qwen, qwen_prompts),
    "Wan (video)": Family(wan, lambda: prompts(**VIDEO)),
    "LTX-Video": Family(ltx, lambda: masked(num_frames=17, height=256, width=256)),
    "CogVideoX": Family(cogvideo, lambda: prompts(**VIDEO)),
    "CogVideoX, dynamic guidance": Family(cogvideo, lambda: prompts(use_dynamic_cfg=True, **VIDEO)),
    "Stable Diffusion XL, modular": Family(modular_sdxl, lambda: for_blocks(pooled()), modular=True),
    "Flux, modular": Family(modular_flux, distilled, modular=True),
}

SCHEDULERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "DDIM": (ddim, {}),
    "DDIM, eta 1": (ddim, {"eta": 1.0}),
    "DDIM, v, zero terminal SNR": (
        lambda: ddim(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
        {},
    ),
    "DDPM": (lambda: diffusers.DDPMScheduler(**BETAS), {}),
    "PNDM": (lambda: diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True), {}),
    "Euler": (lambda: diffusers.EulerDiscreteScheduler(**BETAS), {}),
    "Euler, v": (lambda: diffusers.EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction"), {}),
    "Euler, Karras": (lambda: diffusers.EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True), {}),
    "Euler a": (lambda: diffusers.EulerAncestralDiscreteScheduler(**BETAS), {}),
    "LMS": (lambda: diffusers.LMSDiscreteScheduler(**BETAS), {}),
    "DPM++ 2M": (lambda: diffusers.DPMSolverMultistepScheduler(**BETAS), {}),
    "DPM++ 2M Karras": (lambda: diffusers.DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True), {}),
    "DPM++ 2M SDE": (lambda: diffusers.DPMSolverMultistepScheduler(**BETAS, algorithm_type="sde-dpmsolver++"), {}),
    "DPM++ singlestep": (lambda: diffusers.DPMSolverSinglestepScheduler(**TRAINED), {}),
    "DEIS": (lambda: diffusers.DEISMultistepScheduler(**BETAS), {}),
    "UniPC": (lambda: diffusers.UniPCMultistepScheduler(**BETAS), {}),
    "SA-Solver": (lambda: diffusers.SASolverScheduler(**BETAS), {}),
    "Heun": (lambda: diffusers.HeunDiscreteScheduler(**BETAS), {}),
    "KDPM2": (lambda: diffusers.KDPM2DiscreteScheduler(**BETAS), {}),
    "DPM++ SDE": (lambda: diffusers.DPMSolverSDEScheduler(**BETAS), {}),
    "LCM, 4 steps": (lambda: diffusers.LCMScheduler(**BETAS), {"num_inference_steps": 4}),
}
