"""Pictures that are as they should be: an IMAGE batch, and the files of a folder in ComfyUI's input directory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import comfy.utils
import folder_paths
import numpy as np
import torch
from PIL import Image, ImageOps

from .images import to_rgb

NO_FOLDER = "none"
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
DIGITS = 16


def picture_folders() -> list[str]:
    """Names of the folders in ComfyUI's input directory."""
    inputs = Path(folder_paths.get_input_directory())
    return sorted(path.name for path in inputs.iterdir() if path.is_dir()) if inputs.is_dir() else []


class GoodPictures:
    """Pictures of any size; files are read when they are needed.

    Args:
        images: ComfyUI's IMAGE [B,H,W,C], or None.
        folder: name of a folder in ComfyUI's input directory, or NO_FOLDER.

    Raises:
        ValueError: the folder is not there or holds no pictures.
    """

    def __init__(self, images: torch.Tensor | None, folder: str) -> None:
        self._images = torch.zeros(0, 1, 1, 3) if images is None else to_rgb(images)
        self._files: list[Path] = []
        if folder != NO_FOLDER:
            path = Path(folder_paths.get_input_directory()) / folder
            inside = folder in picture_folders()
            self._files = sorted(f for f in path.iterdir() if f.suffix.lower() in ENDINGS) if inside else []
            if not self._files:
                raise ValueError(
                    f"The folder {folder} in ComfyUI's input directory holds no pictures ({', '.join(ENDINGS)}): "
                    f"choose another one, or {NO_FOLDER}."
                )

    def __len__(self) -> int:
        return len(self._images) + len(self._files)

    @property
    def digest(self) -> str:
        """Identifies the pictures; of files their name, size and date count. Empty if there are none."""
        if not len(self):
            return ""
        found = hashlib.sha256(self._images.cpu().numpy().tobytes())
        for file in self._files:
            found.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
        return found.hexdigest()[:DIGITS]

    def picture(self, place: int, height: int, width: int) -> torch.Tensor:
        """One picture, scaled and cropped around its center, float32 [1,3,height,width], -1 to 1.

        Raises:
            ValueError: its file cannot be read.
        """
        count = len(self._images)
        one = self._images[place][None] if place < count else _read(self._files[place - count])
        scaled = comfy.utils.common_upscale(one.movedim(-1, 1).float(), width, height, "lanczos", "center")
        return scaled.clamp(0, 1) * 2 - 1


def _read(file: Path) -> torch.Tensor:
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        raise ValueError(f"The picture {file.name} cannot be read ({error}): remove it from the folder.") from error
    return torch.from_numpy(np.asarray(picture, np.float32) / 255)[None]
