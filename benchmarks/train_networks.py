"""Trains the feature network and the supervised detector: ``python -m benchmarks.train_networks``.

The detector stands in for PAL, whose weights are not included. It is a small segmentation network trained on planted
artifacts, with the interface of PAL's file: normalized 1x3x512x512 in, labels out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from asced_core.baselines.pal import MEAN, SIDE, STD
from benchmarks.judges import WEIGHTS, FeatureNet, as_tensor

BATCH = 64


class Segmenter(nn.Module):
    """A small U-Net on 64x64 pixels behind PAL's interface; returns labels [1,512,512]."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = self._block(3, 24), self._block(24, 48), self._block(48, 96)
        self.d, self.e = self._block(96 + 48, 48), self._block(48 + 24, 24)
        self.out = nn.Conv2d(24, 2, 1)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.side = SIDE

    @staticmethod
    def _block(a: int, b: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(),
                             nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())  # fmt: skip

    def logits(self, x: Tensor) -> Tensor:
        """Logits [B,2,64,64] of images [B,3,64,64] in -1 to 1."""
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        d = self.d(torch.cat([F.interpolate(c, scale_factor=2.0), b], 1))
        return self.out(self.e(torch.cat([F.interpolate(d, scale_factor=2.0), a], 1)))

    def forward(self, x: Tensor) -> Tensor:
        pixels = (x * self.std + self.mean) / 127.5 - 1  # type: ignore[operator]  # buffers
        small = F.interpolate(pixels, [64, 64], mode="area")
        labels = self.logits(small).argmax(1, keepdim=True)
        return F.interpolate(labels.float(), [self.side, self.side], mode="nearest")[:, 0].long()


def plant(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Plants an artifact of random kind, size and contrast in two of three images; images and bool masks."""
    out, masks = images.copy(), np.zeros(images.shape[:3], bool)
    for i in np.flatnonzero(rng.random(len(images)) < 2 / 3):
        mask = np.zeros((64, 64), np.uint8)
        center, axes = rng.integers(10, 54, 2), rng.integers(3, 10, 2)
        cv2.ellipse(mask, tuple(map(int, center)), tuple(map(int, axes)), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        place = mask.astype(bool)
        kind, strength = rng.integers(4), rng.uniform(0.35, 1)
        if kind == 0:  # a piece of another hand
            other = np.roll(images[rng.integers(len(images))], rng.integers(-20, 20, 2), (0, 1))
        elif kind == 1:  # a smear
            other = cv2.GaussianBlur(images[i], (0, 0), float(rng.uniform(2, 5)))
        elif kind == 2:  # a patch of skin color
            skin = images[i][24:40, 24:40].reshape(-1, 3)[rng.integers(256)].astype(int)
            other = np.clip(skin + rng.normal(0, 8, (64, 64, 3)), 0, 255)
        else:  # a melted texture
            coarse = rng.normal(0, 60, (16, 16, 3)).astype(np.float32)
            other = np.clip(images[i].astype(int) + cv2.resize(coarse, (64, 64)), 0, 255)
        mixed = (1 - strength) * images[i].astype(float) + strength * np.asarray(other, float)
        if np.abs(mixed - images[i])[place].mean() < 6:
            continue  # invisible
        out[i][place], masks[i] = mixed[place].astype(np.uint8), place
    return out, masks


def _soften(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurs images by random amounts, as soft as mid-run predictions."""
    sigmas = rng.uniform(0, 2, len(images))
    return np.stack([cv2.GaussianBlur(i, (0, 0), s) if s > 0.3 else i for i, s in zip(images, sigmas, strict=True)])


def _train(net: nn.Module, minutes: float, step: object, rate: float = 2e-3) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    begin, number = time.time(), 0
    while (share := (time.time() - begin) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - share)
        loss = step()  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        number += 1
        if number % 100 == 0:
            print(f"{share:.0%} step {number} loss {loss.item():.4f}", flush=True)


def _augment(x: Tensor) -> Tensor:
    flip = torch.rand(len(x)) < 0.5
    x = torch.where(flip.view(-1, 1, 1, 1), x.flip(-1), x)
    shift = torch.randint(-4, 5, (2,))
    gain = 1 + 0.3 * (torch.rand(len(x), 1, 1, 1) - 0.5)
    return ((x.roll(tuple(shift.tolist()), (2, 3)) + 1) * gain - 1).clamp(-1, 1)


def train_features(data: dict[str, np.ndarray], minutes: float) -> None:
    """Writes features.safetensors, and real.npz with the features of all photographs."""
    net, held = FeatureNet(), data["is_test"]
    images, labels = as_tensor(data["images"]), torch.from_numpy(data["labels"]).long()
    train = torch.from_numpy(np.flatnonzero(~held))

    def step() -> Tensor:
        pick = train[torch.randint(len(train), (BATCH,))]
        return F.cross_entropy(net(_augment(images[pick])), labels[pick])

    _train(net, minutes, step)
    net.eval()
    with torch.inference_mode():
        features = torch.cat([net.features(part) for part in images.split(256)])
        right = (net.head(features).argmax(1) == labels).numpy()
    print(f"held-out signers: {right[held].mean():.3f}")
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, WEIGHTS / "features.safetensors")
    np.savez_compressed(WEIGHTS / "real.npz", features=features.numpy().astype(np.float16), held_out=held)


def train_detector(data: dict[str, np.ndarray], minutes: float) -> None:
    """Writes supervised.pt as TorchScript."""
    net, rng = Segmenter(), np.random.default_rng(0)
    images = data["images"][~data["is_test"]]

    def step() -> Tensor:
        planted, masks = plant(_soften(images[rng.integers(len(images), size=BATCH)], rng), rng)
        weight = torch.tensor([1.0, 4.0])
        return F.cross_entropy(net.logits(as_tensor(planted)), torch.from_numpy(masks).long(), weight)

    _train(net, minutes, step)
    net.eval()
    planted, masks = plant(_soften(data["images"][data["is_test"]], rng), rng)
    with torch.inference_mode():
        found = net.logits(as_tensor(planted)).argmax(1).numpy() == 1
    print(f"held-out signers: IoU {(found & masks).sum() / (found | masks).sum():.3f}, "
          f"clean images flagged {found[~masks.any((1, 2))].any((1, 2)).mean():.3f}")  # fmt: skip
    torch.jit.trace(net, torch.zeros(1, 3, SIDE, SIDE)).save(str(WEIGHTS / "supervised.pt"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["features", "detector"])
    parser.add_argument("--data", type=Path, required=True, help="signdigits_64.npz")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    archive = np.load(args.data, allow_pickle=False)
    data = {name: archive[name] for name in archive.files}
    data["is_test"] = data["is_test"].astype(bool)
    (train_features if args.which == "features" else train_detector)(data, args.minutes)


if __name__ == "__main__":
    main()
