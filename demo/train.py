"""Trains the hand model: ``python -m demo.train --data signdigits_64.npz --out demo/hands64.safetensors``.

Data: the Sign Language Digits photographs (Mavi 2020, arXiv 2011.08927) as an npz with ``images`` uint8
[N,64,64,3], ``labels`` and ``is_test``. One CPU thread in bf16 processes about 30 images per second.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .hand_unet import NULL_CLASS, STEPS, HandUNet, alphas_cumprod

LABEL_DROP = 0.2  # share of images trained without their digit, for classifier-free guidance
EMA = 0.9995  # decay of the averaged weights
WARMUP = 200  # steps


def load_photographs(path: Path) -> tuple[Tensor, Tensor]:
    """The training split: images uint8 [N,3,H,W] and their digits, int64 [N]."""
    data = np.load(path)
    train = ~data["is_test"]
    images = torch.from_numpy(data["images"][train]).permute(0, 3, 1, 2).contiguous()
    return images, torch.from_numpy(data["labels"][train].astype(np.int64))


def velocity_loss(model: HandUNet, x0: Tensor, labels: Tensor, abar: Tensor) -> Tensor:
    """Mean squared error on ``v = sqrt(abar) eps - sqrt(1-abar) x0``, with stratified timesteps.

    Args:
        model: the network.
        x0: clean images [B,C,H,W], -1 to 1.
        labels: digits [B].
        abar: see ``alphas_cumprod``.
    """
    batch = len(x0)
    t = ((torch.arange(batch) + torch.rand(1)) / batch * STEPS).long().clamp(0, STEPS - 1)
    t = t[torch.randperm(batch)]
    a, s = abar[t].sqrt()[:, None, None, None], (1 - abar[t]).sqrt()[:, None, None, None]
    eps = torch.randn_like(x0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        v = model.velocity(a * x0 + s * eps, t, labels)
    return F.mse_loss(v, a * eps - s * x0)


def initialise(model: HandUNet) -> None:
    """Sets the ends of the residual branches and the head to zero, so that training starts from the identity."""
    for name, parameter in model.named_parameters():
        if name.endswith(("conv_out.weight", "attn.out.weight", "head.weight")):
            torch.nn.init.zeros_(parameter)


def fit(
    model: nn.Module,
    loss: Callable[[], Tensor],
    keep: Callable[[nn.Module], None],
    *,
    minutes: float,
    lr: float,
    ema: float,
    weight_decay: float = 1e-4,
    every: int = 200,
) -> None:
    """Minimizes a loss with AdamW, warmup and cosine decay; saves an exponential moving average of the weights.

    Args:
        model: trained in place; only parameters that require a gradient change.
        loss: returns the loss of the next batch.
        keep: saves the averaged model; called every ``every`` steps, and at the end.
        minutes: wall-clock time.
        lr: peak learning rate.
        ema: decay of the moving average; lower at the start.
        weight_decay: weight decay of AdamW.
        every: steps between two log lines and saves.
    """
    mean = copy.deepcopy(model).requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)
    start, step, losses = time.time(), 0, []
    while (elapsed := (time.time() - start) / 60) < minutes:
        for group in optimizer.param_groups:
            decay = 0.5 * (1 + math.cos(math.pi * elapsed / minutes))
            group["lr"] = lr * min(1.0, (step + 1) / WARMUP) * decay
        value = loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(mean.parameters(), model.parameters(), strict=True):
                ours.lerp_(theirs, 1 - min(ema, (1 + step) / (10 + step)))
        step += 1
        losses.append(value.item())
        if step % every == 0:
            print(f"{elapsed:.1f} min, step {step}, loss {sum(losses[-every:]) / every:.4f}", flush=True)
            keep(mean)
    keep(mean)


def train(args: argparse.Namespace) -> None:
    """Trains the pixel model with the arguments of ``main``."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    images, digits = load_photographs(args.data)
    model = HandUNet()
    initialise(model)
    if args.init:
        model.load_state_dict(load_file(args.init))
    abar = alphas_cumprod()
    order = torch.randperm(len(images))

    def loss() -> Tensor:
        nonlocal order
        if len(order) < args.batch:
            order = torch.randperm(len(images))
        pick, order = order[: args.batch], order[args.batch :]
        x0, labels = images[pick].float() / 127.5 - 1, digits[pick].clone()
        flip = torch.rand(len(x0)) < 0.5
        x0[flip] = x0[flip].flip(-1)
        labels[torch.rand(len(x0)) < LABEL_DROP] = NULL_CLASS
        return velocity_loss(model, x0, labels, abar)

    fit(model, loss, lambda m: save(m, args.out), minutes=args.minutes, lr=args.lr, ema=EMA, every=500)


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in fp16, which halves the file; ComfyUI loads them as float32."""
    return {name: value.half().contiguous() for name, value in state.items()}


def save(model: nn.Module, path: Path) -> None:
    """Writes the weights in fp16 as a safetensors file."""
    save_file(halved(model.state_dict()), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="weights to resume from")
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
