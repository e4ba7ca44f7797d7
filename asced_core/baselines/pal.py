"""A supervised detector of artifacts from a TorchScript file, as PAL's authors publish theirs.

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

SIDE = 512  # what the network takes
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
ARTIFACT = 1  # of the label map
FORM = (
    f"it has to take a float32 picture 1x3x{SIDE}x{SIDE} and answer whole-number labels {SIDE}x{SIDE}, 1 for artifact"
)


def letterbox(picture: Tensor, side: int = SIDE) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Fits a picture into a square, its proportions kept, zeros around it.

    Args:
        picture: [1,C,H,W], normalised, so that zero is the mean colour.
        side: of the square.

    Returns:
        [1,C,side,side], and the picture's top, left, bottom and right edge in it.
    """
    height, width = picture.shape[-2:]
    scale = side / max(height, width)
    inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(picture, inner, mode="bilinear", align_corners=False, antialias=True)
    top, left = (side - inner[0]) // 2, (side - inner[1]) // 2
    box = F.pad(small, (left, side - left - inner[1], top, side - top - inner[0]))
    return box, (top, left, top + inner[0], left + inner[1])


class PALDetector:
    """Segments the artifacts of pictures.

    The network lies on the CPU and visits the pictures' device for a look: a host's memory is not kept occupied.

    Args:
        network: takes normalised RGB float32 [1,3,512,512], gives whole-number labels of 512x512, 1 = artifact.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network.eval()

    @classmethod
    def load(cls, path: Path) -> PALDetector:
        """Reads a TorchScript file. No pickled Python object is ever loaded.

        Raises:
            ValueError: the file is missing, or is no TorchScript file.
        """
        wanted = "expected a TorchScript file such as PAL's end2end.pt, as torch.jit.save writes it"
        if not path.is_file():
            raise ValueError(f"There is no file {path.name}: {wanted}.")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path.name} is of another kind, or only a part of its file: {wanted}.")
        with zipfile.ZipFile(path) as archive:
            if not any("/code/" in name for name in archive.namelist()):
                raise ValueError(f"{path.name} holds weights without the network's code: {wanted}.")
        try:
            return cls(torch.jit.load(str(path), map_location="cpu"))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{path.name} cannot be read ({reason}): {wanted}.") from error

    def __call__(self, pictures: Tensor) -> BoolMap:
        """The artifacts of RGB pictures [B,3,H,W] in -1 to 1, bool [B,H,W].

        Raises:
            ValueError: the network does not take pictures, or its answer is no label map.
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ValueError(
                f"The detector got pictures of shape {tuple(pictures.shape)}: connect RGB pictures [B,3,H,W]."
            )
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
            raise  # the host knows what to do
        except (RuntimeError, torch.jit.Error) as error:  # TorchScript tells its whole stack; the reason comes last
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"The detector's network fails on a picture ({reason}): {FORM}.") from error
        if not isinstance(labels, Tensor) or labels.numel() != SIDE * SIDE or labels.is_floating_point():
            what = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise ValueError(f"The detector's network answered {what.removeprefix('torch.')}: {FORM}.")
        mask = (labels.reshape(SIDE, SIDE)[top:bottom, left:right] == ARTIFACT).cpu().numpy()
        return resize_mask(mask, picture.shape[-2], picture.shape[-1])


def artifact_ratio(masks: BoolMap) -> np.ndarray:
    """PAR: the share of each image [B,H,W] that is artifact, float [B], 0 to 1; ranks images."""
    return masks.mean((1, 2))
