"""The judge of the clothes test set, and its training: ``python -m benchmarks.picking_clothes``.

A small network classifies the ten kinds; FID and recall are computed on its last features. Data: Fashion-MNIST, as for
train_fashion.py. Takes two minutes on one CPU thread.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.judges import WEIGHTS, FeatureNet
from benchmarks.train_fashion import FOLDER, PAD, load_clothes
from demo.train import halved

FILE, REAL = WEIGHTS / "clothes_features.safetensors", WEIGHTS / "clothes_real.npz"
WIDTHS, BATCH, RATE, REALS = (1, 16, 32, 64), 64, 3e-3, 1000


@torch.inference_mode()
def describe_clothes(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features [N,64] and predicted kinds [N] of images uint8 [N,32,32,1]."""
    net = FeatureNet(WIDTHS).eval()
    net.load_state_dict(load_file(FILE))
    pixels = torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1
    features = torch.cat([net.features(part) for part in pixels.split(256)])
    return features.numpy(), net.head(features).argmax(1).numpy()


def _held_out(folder: Path) -> tuple[Tensor, Tensor]:
    pixels = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    images = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).copy())
    return F.pad(images, (PAD, PAD, PAD, PAD)), torch.from_numpy(labels.astype(np.int64))


def train(folder: Path, steps: int) -> None:
    """Writes the weights, and the features of held-out photographs."""
    images, kinds = load_clothes(folder)
    net = FeatureNet(WIDTHS)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        pick = torch.randint(len(images), (BATCH,))
        x = images[pick].float() / 127.5 - 1
        flipped = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, x.flip(-1), x)
        loss = F.cross_entropy(net(flipped), kinds[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_file(halved(net.state_dict()), FILE)
    held, labels = _held_out(folder)
    features, found = describe_clothes(held.movedim(1, -1).numpy())
    np.savez_compressed(REAL, features=features[:REALS].astype(np.float16))
    print(f"held-out photographs: {(found == labels.numpy()).mean():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train(args.data, args.steps)


if __name__ == "__main__":
    main()
