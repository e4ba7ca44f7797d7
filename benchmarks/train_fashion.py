"""Trains the model of the clothes test set, 32x32 gray pixels: ``python -m benchmarks.train_fashion --data FOLDER``.

A second image domain shows whether the detector's settings only suit hands. Data: Fashion-MNIST (Xiao et al. 2017,
arXiv 1708.07747, MIT), in the layout of Debian's package ``dataset-fashion-mnist``. Takes twelve minutes on one CPU
thread.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.judges import WEIGHTS
from demo.hand_unet import NULL_CLASS, HandUNet, alphas_cumprod
from demo.train import fit, initialise, save, velocity_loss

FILE = WEIGHTS / "fashion32.safetensors"
FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE, PAD = 32, 2
BATCH, LEARNING_RATE, WEIGHT_DECAY, LABEL_DROP, EMA = 32, 1e-3, 1e-2, 0.1, 0.999


def make_network() -> HandUNet:
    """The hand model's network with one channel, half as wide at its coarsest level."""
    return HandUNet(mult=(1, 2, 2), image_channels=1, border=0)


def load_clothes(folder: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 [60000,1,32,32] with a black border, and their classes, 0 to 9."""
    pixels = np.frombuffer(gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    images = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).copy())
    return F.pad(images, (PAD, PAD, PAD, PAD)), torch.from_numpy(labels.astype(np.int64))


def train(folder: Path, minutes: float) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    images, kinds = load_clothes(folder)
    model, abar = make_network(), alphas_cumprod()
    initialise(model)

    def loss() -> Tensor:
        pick = torch.randint(len(images), (BATCH,))
        labels = kinds[pick].masked_fill(torch.rand(BATCH) < LABEL_DROP, NULL_CLASS)
        return velocity_loss(model, images[pick].float() / 127.5 - 1, labels, abar)

    fit(
        model, loss, lambda m: save(m, FILE), minutes=minutes, lr=LEARNING_RATE, ema=EMA, weight_decay=WEIGHT_DECAY,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FOLDER)
    parser.add_argument("--minutes", type=float, default=12)
    args = parser.parse_args()
    train(args.data, args.minutes)


if __name__ == "__main__":
    main()
