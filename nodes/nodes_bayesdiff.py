"""ASCED_BayesDiff: a run of the host's with the uncertainty of its pixels beside it."""

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
from .inputs import cfg_input, check_conditioning, check_latent, schedule_inputs, seed_input
from .model_files import FOLDER, POSTERIOR, changed, files_with, find_file, new_file
from .page import status
from .sampling.bayesdiff_run import MOST_IMAGES, UncertainRun
from .sampling.plan import image_size
from .sampling.spaces import check_vae

FIT = "fit on the images"


class ASCED_BayesDiff(io.ComfyNode):
    """Samples with the uncertainty of each pixel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASCED_BayesDiff",
            display_name="ASCED BayesDiff",
            category=sockets.BASELINES,
            description="Samples by Euler (DDIM) and tells how uncertain the model is of each pixel, after BayesDiff "
            "(Kou et al. 2023): to compare with what ASCED finds, and to rank images. It needs a posterior of the "
            "model's last layer, fitted on a few images that the model should know, or read from a file.",
            **sockets.found_by("uncertainty", "heatmap"),
            inputs=[
                io.Model.Input("model", tooltip="The model that denoises."),
                seed_input("seed", "The seed of the noise, and of the draws."),
                io.Int.Input("steps", default=25, min=2, max=10000, tooltip="Sampling steps."),
                cfg_input(),
                *schedule_inputs(),
                io.Combo.Input(
                    "posterior",
                    options=[FIT, *files_with(POSTERIOR)],
                    tooltip=f"{FIT}: needs images and vae, one call of the model for each image. Or a file in "
                    "models/asced that this node saved for this checkpoint.",
                ),
                io.Int.Input(
                    "step_interval",
                    default=STEP_INTERVAL,
                    min=1,
                    max=1000,
                    tooltip="The uncertainty is looked at every n-th step; each look costs draws + 1 model calls.",
                ),
                io.Int.Input("draws", default=DRAWS, min=2, max=1000, tooltip="Draws of a look; 10 in the paper."),
                io.String.Input(
                    "save_as",
                    default="",
                    tooltip="Name under which a fitted posterior is kept in models/asced; empty: it is not.",
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip=f"To fit on: some dozen to {MOST_IMAGES} images like those that the model makes.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The checkpoint's VAE, to encode the images."),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="As by KSampler with euler."),
                io.Image.Output("heat", display_name="IMAGE", tooltip="The uncertainty, dark low and bright high."),
                io.Mask.Output(
                    "mask", display_name="MASK", tooltip="The same at image size, 0 to 1; 1 is the batch's highest."
                ),
                io.Float.Output(
                    "score", display_name="score", tooltip="Mean uncertainty of the batch, in latent units."
                ),
                io.String.Output("scores", display_name="scores", tooltip="Uncertainty of each image, a line each."),
            ],
            hidden=[io.Hidden.unique_id],
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
        check_conditioning("positive", positive)
        check_conditioning("negative", negative)
        latent = comfy.sample.fix_empty_latent_channels(model, latent_image["samples"])
        if latent.ndim != 4:
            raise ValueError(
                f"BayesDiff is for images [B,C,H,W], and this latent has shape {tuple(latent.shape)}: connect that of "
                "an image model, such as an Empty Latent Image."
            )
        file, clean = None, None
        if posterior == FIT:
            clean = _encoded(images, vae, latent)
        elif (file := find_file(posterior)) is None:
            raise ValueError(f"There is no file {posterior} in models/{FOLDER}: choose another, or {FIT}.")
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
        maps, scores = map_of(run.variance).cpu(), score_of(run.variance).tolist()
        shown = _at_image_size(maps, model, latent)
        lines = "\n".join(f"{score:.4g}" for score in scores)
        status.announce(cls.hidden.unique_id, f"Uncertainty {', '.join(lines.splitlines())}.")
        heat = torch.from_numpy(np.stack([cividis(one) for one in shown.numpy()])).float() / 255
        out = {**latent_image, "samples": samples}
        return io.NodeOutput(out, heat, shown, float(np.mean(scores)), lines)

    @classmethod
    def fingerprint_inputs(cls, posterior: str, **_: Any) -> float:
        return 0.0 if posterior == FIT else changed(posterior)


def _encoded(images: Tensor | None, vae: Any, latent: Tensor) -> Tensor:
    """The images to fit on as the host's latents [N,C,h,w], one at a time so that their number costs no memory."""
    if images is None:
        raise ValueError(
            "A posterior is fitted on images: connect some dozen that the model should know, or choose a file "
            f"that was saved before in models/{FOLDER}."
        )
    check_vae(vae, tuple(latent.shape), "Fitting on images")
    return torch.cat([vae.encode(image[..., :3]) for image in images[:MOST_IMAGES].split(1)])


def _at_image_size(maps: Tensor, model: Any, latent: Tensor) -> Tensor:
    """Maps [B,h,w] as masks [B,H,W], 0 to 1, 1 where the batch is most uncertain."""
    size = image_size(model, tuple(latent.shape))
    large = torch.nn.functional.interpolate(maps[:, None].float(), size, mode="nearest")[:, 0]
    return large / large.max().clamp_min(1e-12)


NODES = [ASCED_BayesDiff]
