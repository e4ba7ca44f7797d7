"""A pipeline with random weights for ``--pipeline batch_pipeline:pipeline``; its prompts say what goes wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import diffusers
import torch

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
LATE = 650  # timestep from which on an artifact is there, in the middle of the window


class Hands(diffusers.StableDiffusionPipeline):
    """Denoises to a smooth picture.

    - a prompt with "stump": an artifact appears in mid-run;
    - "broken": an exception;
    - "killed": the process is killed in mid-run, if the file of this name in the environment's BATCH_MARKS is missing.
    """

    def encode_prompt(self, prompt: str, *_: Any, negative_prompt: str | None = None, **__: Any) -> Any:
        if "broken" in prompt:
            raise ValueError("This prompt breaks the pipeline.")
        self.current, self.steps_done = prompt, 0
        return torch.zeros(1, 7, 32), None

    def denoised(self, _module: Any, args: Any, _kwargs: Any, output: Any) -> Any:
        """Replaces what the network returns."""
        x, t = args[:2]
        self.steps_done += 1
        if "killed" in self.current and self.steps_done == 5:
            mark = Path(os.environ["BATCH_MARKS"]) / self.current
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        axis = torch.linspace(0, 6.28, x.shape[-1])
        clean = (torch.sin(axis)[:, None] + torch.cos(axis)).expand(x.shape) + 0.05 * output[0].clamp(-3, 3)
        if "stump" in self.current and t < LATE:
            clean[..., 5:9, 5:9] += 3.0
        alpha_bar = self.scheduler.alphas_cumprod[int(t)]
        return ((x - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt(),)


def pipeline() -> Hands:
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16,), layers_per_block=1,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), cross_attention_dim=32,
        attention_head_dim=8, norm_num_groups=8,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8,) * 4, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    pipe = Hands(
        vae=vae, text_encoder=None, tokenizer=None, unet=unet, safety_checker=None, feature_extractor=None,
        scheduler=diffusers.DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False),
        requires_safety_checker=False,
    )  # fmt: skip
    unet.register_forward_hook(pipe.denoised, with_kwargs=True)
    return pipe
