"""Trains the latent hand model in three parts, each a command of ``python -m demo.train_latent``.

- ``autoencoder``: ComfyUI's AutoencoderKL, small, with 4 channels and 4x4 pixels per latent cell.
- ``decoder``: ComfyUI's tiny preview decoder (TAESD, twice the size: 8x8 pixels per cell), distilled from the
  autoencoder.
- ``denoiser``: the U-Net of the pixel model, on these latents.

This needs ComfyUI's classes: ``--comfyui`` is its folder. The data is the same as in ``demo.train``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .hand_unet import LATENT, NULL_CLASS, HandUNet
from .latent_space import AUTOENCODER, DOWNSCALE, FORMAT_KEYS
from .train import LABEL_DROP, fit, halved, initialise, load_photographs, save, velocity_loss

KL = 1e-6  # weight of the KL divergence, as in latent diffusion (Rombach et al. 2022, arXiv 2112.10752, Sec. 3.1)
EMA = 0.999  # decay of the averaged weights
EDGES = 1.0  # weight of the differences between neighboring pixels, which preserve detail that plain L1 blurs


def load_host(folder: Path) -> None:
    """Puts ComfyUI's modules on the path, and selects the CPU."""
    sys.path.insert(0, str(folder))
    sys.argv = sys.argv[:1]
    from comfy.cli_args import args

    args.cpu = True


def build_autoencoder(state: dict[str, Tensor] | None = None) -> Any:
    """ComfyUI's AutoencoderKL with the given weights, or with initial ones."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    model = AutoencoderKL(**copy.deepcopy(AUTOENCODER))
    if state is not None:
        model.load_state_dict({k: v.float() for k, v in state.items() if k not in FORMAT_KEYS})
    else:
        _fresh(model)
    return model


def _fresh(model: nn.Module) -> None:
    """Initializes the layers as torch does; ComfyUI leaves them without values."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def photographs(images: Tensor, batch: int) -> Iterator[Tensor]:
    """Endless batches [B,3,H,W], -1 to 1, randomly flipped and shifted by up to one cell."""
    while True:
        for pick in torch.randperm(len(images)).split(batch):
            x = images[pick].float() / 127.5 - 1
            flip = torch.rand(len(x)) < 0.5
            x[flip] = x[flip].flip(-1)
            left, top = torch.randint(0, 2 * DOWNSCALE, (2,)).tolist()
            side = x.shape[-1]
            yield F.pad(x, (DOWNSCALE,) * 4, mode="reflect")[..., top : top + side, left : left + side]


def picture_loss(out: Tensor, target: Tensor) -> Tensor:
    """L1 on pixels [B,3,H,W] and on the differences between neighbors."""
    loss = (out - target).abs().mean()
    for axis in (-1, -2):
        loss = loss + EDGES * (out.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
    return loss


def fit_for(args: Any, model: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Calls ``fit`` with the command-line arguments."""
    fit(model, loss, lambda m: save(m, args.out), minutes=args.minutes, lr=args.lr, ema=EMA)


def train_autoencoder(args: Any, images: Tensor, _: Tensor) -> None:
    """Trains the autoencoder on images uint8 [N,3,H,W]."""
    model = build_autoencoder()
    batches = photographs(images, args.batch)

    def loss() -> Tensor:
        x = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mean, logvar = model.quant_conv(model.encoder(x)).float().chunk(2, 1)
            logvar = logvar.clamp(-30, 20)
            z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
            out = model.decode(z).float()
        divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
        return picture_loss(out, x) + KL * divergence

    fit_for(args, model, loss)
    finish_autoencoder(args.out, images)


@torch.no_grad()
def finish_autoencoder(path: Path, images: Tensor) -> None:
    """Adds what a latent format needs to the file: the scale of the latents and their linear map to RGB."""
    state = {k: v for k, v in load_file(path).items() if k not in FORMAT_KEYS}
    model = build_autoencoder(state)
    z, small = [], []
    for x in images.split(64):
        x = x.float() / 127.5 - 1
        z.append(model.encode(x))
        small.append(F.avg_pool2d(x, DOWNSCALE))
    latents, colors = torch.cat(z), torch.cat(small)
    scale = 1 / latents.std()
    flat = (latents * scale).movedim(1, -1).reshape(-1, latents.shape[1])
    fitted = torch.linalg.lstsq(
        torch.cat([flat, torch.ones(len(flat), 1)], 1), colors.movedim(1, -1).reshape(-1, 3)
    ).solution
    format_ = dict(zip(FORMAT_KEYS, (scale.reshape(1), fitted[:-1], fitted[-1]), strict=True))
    save_file({**halved(state), **{k: v.contiguous() for k, v in format_.items()}}, path)
    print(json.dumps({"latent std": float(latents.std()), "means": latents.mean((0, 2, 3)).tolist()}))


def train_decoder(args: Any, images: Tensor, _: Tensor) -> None:
    """Distills the tiny decoder from the autoencoder."""
    from comfy.taesd.taesd import Decoder

    state = load_file(args.autoencoder)
    teacher = build_autoencoder(state).requires_grad_(False)
    model = Decoder(latent_channels=teacher.embed_dim)
    _fresh(model)
    scale = float(state[FORMAT_KEYS[0]])
    batches = photographs(images, args.batch)

    def loss() -> Tensor:
        x = next(batches)
        with torch.no_grad():
            z = teacher.encode(x) * scale
            top, left = torch.randint(0, z.shape[-1] // 2 + 1, (2,)).tolist()
            half = z.shape[-1] // 2
            crop = x[..., top * DOWNSCALE : (top + half) * DOWNSCALE, left * DOWNSCALE : (left + half) * DOWNSCALE]
            target = F.interpolate(crop, scale_factor=2, mode="bilinear") * 0.5 + 0.5
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(z[..., top : top + half, left : left + half]).float()
        inner = (..., slice(8, -8), slice(8, -8))  # not affected by the edge of the crop
        return picture_loss(out[inner], target[inner])

    fit_for(args, model, loss)


def train_denoiser(args: Any, images: Tensor, digits: Tensor) -> None:
    """Trains the U-Net on the latents of the images."""
    state = load_file(args.autoencoder)
    encoder, scale = build_autoencoder(state), float(state[FORMAT_KEYS[0]])
    with torch.no_grad():  # encode originals and flips once, so that the autoencoder is not needed again
        both = [images, images.flip(-1)]
        latents = torch.cat([encoder.encode(x.float() / 127.5 - 1) * scale for y in both for x in y.split(64)])
    labels, model = digits.repeat(2), HandUNet(**LATENT)
    initialise(model)
    if args.init:
        model.load_state_dict(load_file(args.init))

    def batches() -> Iterator[Tensor]:
        while True:
            yield from torch.randperm(len(latents)).split(args.batch)

    order, abar = batches(), model.abar

    def loss() -> Tensor:
        pick = next(order)
        y = labels[pick].clone()
        y[torch.rand(len(y)) < LABEL_DROP] = NULL_CLASS
        return velocity_loss(model, latents[pick], y, abar)

    fit_for(args, model, loss)


PARTS = {"autoencoder": train_autoencoder, "decoder": train_decoder, "denoiser": train_denoiser}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path, help="trained autoencoder; required by decoder and denoiser")
    parser.add_argument("--init", type=Path, help="denoiser weights to resume from")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    load_host(args.comfyui)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    PARTS[args.part](args, *load_photographs(args.data))


if __name__ == "__main__":
    main()
