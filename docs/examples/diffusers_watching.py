"""A pipeline of diffusers with ASCED: report, masks and overlay. The pipeline is tiny and random, so nothing loads."""

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.draw.overlay import draw_overlay
from asced_core.hosts.diffusers import watching


def tiny() -> StableDiffusionPipeline:
    """With a real model: StableDiffusionPipeline.from_pretrained("...").to("cuda")"""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(16,), layers_per_block=1, cross_attention_dim=32,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), attention_head_dim=8, norm_num_groups=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8,) * 4, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae, text_encoder=None, tokenizer=None, unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


pipe = tiny()
prompt = {"prompt_embeds": torch.randn(2, 7, 32), "negative_prompt_embeds": torch.randn(2, 7, 32)}  # prompt="a cat"
sensitive = DetectionSettings(mad_scale=0.005, min_area=10, min_width=0)  # random weights draw nothing; leave it out
with watching(pipe, sensitive, CorrectionSettings(x0_source="previous"), seed=7) as run:
    images = pipe(**prompt, height=128, width=128, num_inference_steps=25, output_type="np").images

report = run.report()
print(report.summary())
for image, mask, found in zip(images, report.image_masks(), report.images, strict=True):
    picture = (255 * image).astype(np.uint8)
    overlay = draw_overlay(picture, mask > 0, found.regions, report.labels.shape[1:])
    print(f"image {found.index}: {len(found.regions)} regions, {mask.mean():.0%} marked, overlay {overlay.shape}")
