"""A supervised artifact detector from a TorchScript file, the format that PAL's authors publish.

Zhang et al., "Perceptual Artifacts Localization for Image Synthesis Tasks", ICCV 2023, arXiv 2310.05590.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import BoolMap, resize_mask

SIDE = 512  # side of the network's input
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
ARTIFACT = 1  # label in the network's output
FORM = f"it must map a float32 image 1x3x{SIDE}x{SIDE} to integer labels {SIDE}x{SIDE}, with 1 for artifacts"


def letterbox(picture: Tensor, side: int = SIDE) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Fits an image into a square, keeping its aspect ratio, padded with zeros.

    Args:
        picture: [1,C,H,W], normalized so that zero is the mean color.
        side: side of the square.

    Returns:
        [1,C,side,side], and the top, left, bottom and right edge of the image in it.
    """
    height, width = picture.shape[-2:]
    scale = side / max(height, width)
    inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(picture, inner, mode="bilinear", align_corners=False, antialias=True)
    top, left = (side - inner[0]) // 2, (side - inner[1]) // 2
    box = F.pad(small, (left, side - left - inner[1], top, side - top - inner[0]))
    return box, (top, left, top + inner[0], left + inner[1])


class PALDetector:
    """Segments the artifacts of images.

    The network stays on the CPU and moves to the images' device only for a call, so it occupies no device memory
    between calls.

    Args:
        network: maps normalized RGB float32 [1,3,512,512] to integer labels 512x512, 1 = artifact.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network.eval()

    @classmethod
    def load(cls, path: Path) -> PALDetector:
        """Reads a TorchScript file. No pickled Python object is ever loaded.

        Raises:
            ValueError: the file is missing, or is not a TorchScript file.
        """
        wanted = "expected a TorchScript file written by torch.jit.save, such as PAL's end2end.pt"
        if not path.is_file():
            raise ValueError(f"There is no file {path.name}: {wanted}.")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path.name} is another kind of file, or incomplete: {wanted}.")
        with zipfile.ZipFile(path) as archive:
            if not any("/code/" in name for name in archive.namelist()):
                raise ValueError(f"{path.name} contains weights without the network's code: {wanted}.")
        try:
            return cls(torch.jit.load(str(path), map_location="cpu"))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{path.name} cannot be read ({reason}): {wanted}.") from error

    def __call__(self, pictures: Tensor) -> BoolMap:
        """Artifact masks, bool [B,H,W], of RGB images [B,3,H,W] in -1 to 1.

        Raises:
            ValueError: the input is not RGB, the network fails on it, or its output is not a label map.
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ValueError(f"The detector needs RGB images [B,3,H,W], got shape {tuple(pictures.shape)}.")
        self._network.to(pictures.device)
        try:
            return np.stack([self._one(picture) for picture in pictures.split(1)])
        finally:
            self._network.to("cpu")

    def _one(self, picture: Tensor) -> BoolMap:
        mean, std = (torch.tensor(v, device=picture.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        levels = (picture.float().clamp(-1, 1) + 1) * 127.5
        box, (top, left, bottom, right) = letterbox((levels - mean) / std)
        try:
            with torch.inference_mode():
                labels = self._network(box)
        except torch.cuda.OutOfMemoryError:
            raise  # the caller handles it
        except (RuntimeError, torch.jit.Error) as error:
            # TorchScript prints its whole stack; the last line is the reason
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"The detector's network failed on an image ({reason}): {FORM}.") from error
        if not isinstance(labels, Tensor) or labels.numel() != SIDE * SIDE or labels.is_floating_point():
            what = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise ValueError(f"The detector's network returned {what.removeprefix('torch.')}: {FORM}.")
        mask = (labels.reshape(SIDE, SIDE)[top:bottom, left:right] == ARTIFACT).cpu().numpy()
        return resize_mask(mask, picture.shape[-2], picture.shape[-1])


def artifact_ratio(masks: BoolMap) -> np.ndarray:
    """PAR: artifact share of each image, from masks [B,H,W], float [B], 0 to 1; ranks images."""
    return masks.mean((1, 2))
