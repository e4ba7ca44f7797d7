"""The judges of whole images; none of them sees what a detector found.

Features and digits come from a small network trained on photographs (train_networks.py), the presence of a hand from
MediaPipe's landmark model (Apache-2.0), stray components from a rule.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).resolve().parent / "weights"
FEATURES = 128
MEDIAPIPE = "mediapipe==0.10.21"
LANDMARKS = "mediapipe/modules/hand_landmark/hand_landmark_lite.tflite"
PRESENT = 0.9  # a hand with a lower presence counts as malformed; 0.5 % of real photographs do
SATURATION, LEAST_AREA, EDGE = 60, 14, 4  # of stray components


class FeatureNet(nn.Module):
    """Classifies ten kinds of images; FID, precision and recall are computed on its last features.

    Args:
        widths: channels of the images and of each block; the last is the number of features.
    """

    def __init__(self, widths: tuple[int, ...] = (3, 32, 64, 128, FEATURES)) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1),
                          nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in itertools.pairwise(widths)
        )  # fmt: skip
        self.head = nn.Linear(widths[-1], 10)

    def features(self, x: Tensor) -> Tensor:
        """[B,F] of pictures [B,C,H,W] in -1 to 1."""
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(x), 0.2, self.training))


def as_tensor(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [B,H,W,3] to float [B,3,H,W] in -1 to 1."""
    return torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1


@torch.inference_mode()
def describe(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features [N,128] and predicted digits [N]."""
    net = FeatureNet().eval()
    net.load_state_dict(load_file(WEIGHTS / "features.safetensors"))
    features = torch.cat([net.features(as_tensor(images[i : i + 256])) for i in range(0, len(images), 256)])
    return features.numpy(), net.head(features).argmax(1).numpy()


@torch.inference_mode()
def right_digit(images: NDArray[np.uint8], digits: Sequence[int]) -> list[float]:
    """The probability [N] that each image shows the digit that it should."""
    net = FeatureNet().eval()
    net.load_state_dict(load_file(WEIGHTS / "features.safetensors"))
    chances = net(as_tensor(images)).softmax(1)
    return [float(row[digit]) for row, digit in zip(chances, digits, strict=True)]


def foreground(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 on the hand and on everything else of its colors, 0 on the background, [H,W]."""
    smooth = cv2.bilateralFilter(image, 5, 40, 5)
    colored = (cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV)[..., 1] > SATURATION).astype(np.uint8)
    closed = cv2.morphologyEx(colored, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)), np.uint8)


def stray_components(image: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    """Pieces of foreground that are not connected to the hand; left, top, right, bottom of each."""
    opened = foreground(image)
    rim = np.zeros_like(opened)
    rim[EDGE:-EDGE, EDGE:-EDGE] = 1
    found = cv2.connectedComponentsWithStats(opened * rim, connectivity=8)
    stats = np.asarray(found[2])[1:]
    if len(stats) < 2:
        return []
    largest = int(stats[:, cv2.CC_STAT_AREA].argmax())
    others = [s for i, s in enumerate(stats) if i != largest and s[cv2.CC_STAT_AREA] >= LEAST_AREA]
    return [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in others]


def landmark_file(folder: Path) -> Path:
    """MediaPipe's hand model, extracted from its wheel, which is too large to install for one file."""
    file = folder / Path(LANDMARKS).name
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11", "-q", "-d", work]
            subprocess.run([sys.executable, "-m", "pip", "download", *options, MEDIAPIPE], check=True)
            with zipfile.ZipFile(next(Path(work).glob("*.whl"))) as wheel:
                file.write_bytes(wheel.read(LANDMARKS))
    return file


def presence(images: NDArray[np.uint8], model: Path) -> NDArray[np.float32]:
    """MediaPipe's confidence that each image [N,H,W,3] shows a hand, 0 to 1."""
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model_path=str(model))
    net.allocate_tensors()
    place = net.get_input_details()[0]["index"]
    scalars = [o["index"] for o in net.get_output_details() if int(np.prod(o["shape"])) == 1]
    out = []
    for image in images:
        large = cv2.resize(image, (224, 224), interpolation=cv2.INTER_CUBIC)
        net.set_tensor(place, large[None].astype(np.float32) / 255)
        net.invoke()
        out.append(float(net.get_tensor(scalars[0]).ravel()[0]))
    return np.array(out, np.float32)
