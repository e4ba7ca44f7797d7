"""ASCED_BayesDiff: a plain ComfyUI run that also estimates how uncertain each pixel is."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import latent_preview
import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..asced_core.baselines.bayesdiff import DRAWS, STEP_INTERVAL, map_of, score_of
from ..asced_core.draw.heat import cividis
from . import sockets
from .images import to_rgb
from .inputs import cfg_input, check_conditioning, check_latent, schedule_inputs, seed_input
from .model_files import FOLDER, POSTERIOR, changed, files_with, find_file, new_file
from .page import status
from .sampling.bayesdiff_run import MOST_IMAGES, UncertainRun
from .sampling.plan import image_size
from .sampling.spaces import check_vae

FIT = "fit on the images"


class ASCED_BayesDiff(io.ComfyNode):
    """Samples and estimates the uncertainty of each pixel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_BayesDiff",
            display_name="ASCED BayesDiff",
            category=sockets.BASELINES,
            description="Samples with Euler (DDIM) and shows how uncertain the model is about each pixel, following "
            "BayesDiff (Kou et al. 2023): a baseline for ASCED's detections, and a way to rank images. It needs a "
            "posterior of the model's last layer, fitted on images typical of the model or loaded from a file.",
            **sockets.found_by("uncertainty", "heatmap"),
            inputs=[
                io.Model.Input("model", tooltip="The model used for denoising."),
                seed_input("seed", "Seed of the initial noise and of the random draws."),
                io.Int.Input("steps", default=25, min=2, max=10000, tooltip="Sampling steps."),
                cfg_input(),
                *schedule_inputs(),
                io.Combo.Input(
                    "posterior",
                    options=[FIT, *files_with(POSTERIOR)],
                    tooltip=f"{FIT}: needs images and vae, and one model call per image. Or choose a file in "
                    "models/asced that this node saved for the same checkpoint.",
                ),
                io.Int.Input(
                    "step_interval",
                    default=STEP_INTERVAL,
                    min=1,
                    max=1000,
                    tooltip="Measures the uncertainty at every n-th step. Each measurement costs draws + 1 model "
                    "calls.",
                ),
                io.Int.Input(
                    "draws", default=DRAWS, min=2, max=1000, tooltip="Random draws per measurement; 10 in the paper."
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    tooltip="Name for saving the fitted posterior in models/asced. Leave empty to not save it.",
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip=f"Images to fit the posterior on: a few dozen to {MOST_IMAGES}, like those the model "
                    "makes.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The checkpoint's VAE, to encode the images to fit on."),
            ],
            outputs=[
                io.Latent.Output(
                    "latent", display_name="LATENT", tooltip="The sampled latent; it matches KSampler with euler."
                ),
                io.Image.Output(
                    "heat", display_name="IMAGE", tooltip="Heat map of the uncertainty: dark is low, bright is high."
                ),
                io.Mask.Output(
                    "mask", display_name="MASK", tooltip="The uncertainty, 0 to 1; 1 is the highest value in the batch."
                ),
                io.Float.Output(
                    "score", display_name="score", tooltip="Mean uncertainty of the batch, in latent units."
                ),
                io.String.Output("scores", display_name="scores", tooltip="Uncertainty of each image, one per line."),
            ],
            hidden=[io.Hidden.unique_id],
            **sockets.keeps_result_text(),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        posterior: str,
        step_interval: int,
        draws: int,
        save_as: str,
        images: Tensor | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        check_latent(latent_image)
        check_conditioning(positive, negative, cfg)
        latent = comfy.sample.fix_empty_latent_channels(model, latent_image["samples"])
        if latent.ndim != 4:
            raise ValueError(
                f"BayesDiff needs image latents [B,C,H,W], but this latent has shape {tuple(latent.shape)}: connect "
                "the latent of an image model, such as an Empty Latent Image."
            )
        file, clean = None, None
        if posterior == FIT:
            clean = _encoded(images, vae, latent)
        elif (file := find_file(posterior)) is None:
            raise ValueError(f"There is no file {posterior} in models/{FOLDER}: choose another one, or '{FIT}'.")
        target = new_file("save_as", save_as, POSTERIOR) if save_as.strip() else None
        run = UncertainRun(model, clean, file, seed, step_interval, draws)
        noise = comfy.sample.prepare_noise(latent, seed, latent_image.get("batch_index"))
        sampler = comfy.samplers.KSAMPLER(run)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
        samples = comfy.sample.sample_custom(
            run.patched, noise, cfg, sampler, sigmas, positive, negative, latent,
            noise_mask=latent_image.get("noise_mask"), seed=seed,
            callback=latent_preview.prepare_callback(run.patched, steps),
        )  # fmt: skip
        assert run.variance is not None
        assert run.laplace is not None
        if target is not None and file is None:
            run.laplace.save(target)
        maps, scores = map_of(run.variance).detach().cpu(), score_of(run.variance).tolist()
        shown = _at_image_size(maps, model, latent)
        lines = "\n".join(f"{score:.4g}" for score in scores)
        heat = torch.from_numpy(np.stack([cividis(one) for one in shown.numpy()])).float() / 255
        out = {**latent_image, "samples": samples}
        words = f"Uncertainty: {', '.join(lines.splitlines())}."
        return status.told(cls, words, out, heat, shown, float(np.mean(scores)), lines)

    @classmethod
    def fingerprint_inputs(cls, posterior: str, **_: Any) -> float:
        return 0.0 if posterior == FIT else changed(posterior)


def _encoded(images: Tensor | None, vae: Any, latent: Tensor) -> Tensor:
    """The images to fit on as ComfyUI latents [N,C,h,w], encoded one at a time to save memory."""
    if images is None:
        raise ValueError(
            "Fitting a posterior needs images: connect a few dozen that are typical of the model, or choose a "
            f"posterior that was saved in models/{FOLDER}."
        )
    check_vae(vae, tuple(latent.shape), "Fitting on images")
    return torch.cat([vae.encode(image) for image in to_rgb(images[:MOST_IMAGES]).split(1)])


def _at_image_size(maps: Tensor, model: Any, latent: Tensor) -> Tensor:
    """Maps [B,h,w] as masks [B,H,W], 0 to 1; 1 is the highest uncertainty in the batch."""
    size = image_size(model, tuple(latent.shape))
    large = torch.nn.functional.interpolate(maps[:, None].float().nan_to_num(0.0, 0.0), size, mode="nearest")[:, 0]
    return large / large.max().clamp_min(1e-12)


NODES = [ASCED_BayesDiff]
