"""Trains the hand model: ``python -m demo.train --data signdigits_64.npz --out demo/hands64.safetensors``.

Data: the Sign Language Digits photographs (Mavi 2020, arXiv 2011.08927) as an npz with ``images`` uint8
[N,64,64,3], ``labels`` and ``is_test``. One CPU thread in bf16 sees about 30 images a second.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from .hand_unet import NULL_CLASS, STEPS, HandUNet, alphas_cumprod

LABEL_DROP = 0.2  # share of images trained without their digit, for classifier-free guidance
EMA = 0.9995
WARMUP = 200


def load_photographs(path: Path) -> tuple[Tensor, Tensor]:
    """The training half: images uint8 [N,3,H,W] and their digits [N]."""
    data = np.load(path)
    train = ~data["is_test"]
    images = torch.from_numpy(data["images"][train]).permute(0, 3, 1, 2).contiguous()
    return images, torch.from_numpy(data["labels"][train].astype(np.int64))


def velocity_loss(model: HandUNet, x0: Tensor, labels: Tensor, abar: Tensor) -> Tensor:
    """Mean squared error on ``v = sqrt(abar) eps - sqrt(1-abar) x0``, with stratified time steps."""
    batch = len(x0)
    t = ((torch.arange(batch) + torch.rand(1)) / batch * STEPS).long().clamp(0, STEPS - 1)
    t = t[torch.randperm(batch)]
    a, s = abar[t].sqrt()[:, None, None, None], (1 - abar[t]).sqrt()[:, None, None, None]
    eps = torch.randn_like(x0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        v = model.velocity(a * x0 + s * eps, t, labels)
    return F.mse_loss(v, a * eps - s * x0)


def initialise(model: HandUNet) -> None:
    """Residual branches and the head start at zero, so that training starts from the identity."""
    for name, parameter in model.named_parameters():
        if name.endswith(("conv_out.weight", "attn.out.weight", "head.weight")):
            torch.nn.init.zeros_(parameter)


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    images, digits = load_photographs(args.data)
    model = HandUNet()
    initialise(model)
    if args.init:
        model.load_state_dict(load_file(args.init))
    ema = copy.deepcopy(model).requires_grad_(False)
    abar = alphas_cumprod()
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4)

    start, step, losses = time.time(), 0, []
    order = torch.randperm(len(images))
    while (elapsed := (time.time() - start) / 60) < args.minutes:
        for group in optimiser.param_groups:
            decay = 0.5 * (1 + math.cos(math.pi * elapsed / args.minutes))
            group["lr"] = args.lr * min(1.0, (step + 1) / WARMUP) * decay
        if len(order) < args.batch:
            order = torch.randperm(len(images))
        pick, order = order[: args.batch], order[args.batch :]
        x0, labels = images[pick].float() / 127.5 - 1, digits[pick].clone()
        flip = torch.rand(len(x0)) < 0.5
        x0[flip] = x0[flip].flip(-1)
        labels[torch.rand(len(x0)) < LABEL_DROP] = NULL_CLASS

        loss = velocity_loss(model, x0, labels, abar)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            for mean, parameter in zip(ema.parameters(), model.parameters(), strict=True):
                mean.lerp_(parameter, 1 - min(EMA, (1 + step) / (10 + step)))
        step += 1
        losses.append(loss.item())
        if step % 500 == 0:
            print(f"{elapsed:.1f} min, step {step}, loss {np.mean(losses[-500:]):.4f}", flush=True)
            save(ema, args.out)
    save(ema, args.out)


def save(model: HandUNet, path: Path) -> None:
    """fp16 halves the file; the host loads it back to float32."""
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="weights to go on from")
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
