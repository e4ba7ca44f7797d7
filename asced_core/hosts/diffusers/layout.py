"""Latents as the detector takes them: images [B,C,H,W] or videos [B,C,T,H,W], whatever shape a pipeline steps in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .levels import UnwatchableError


class Layout:
    """Images [B,C,H,W] and videos [B,C,T,H,W], as they are."""

    def images(self, x: Tensor) -> Tensor:
        """The latents as images or videos."""
        return x

    def back(self, images: Tensor) -> Tensor:
        """The same latents in the pipeline's shape."""
        return images


class FramesFirst(Layout):
    """Videos [B,T,C,H,W]."""

    def images(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)

    def back(self, images: Tensor) -> Tensor:
        return images.transpose(1, 2)


@dataclass(frozen=True)
class Tokens(Layout):
    """Latents packed into tokens [B,T*h*w,C*p*p], each a patch of p x p cells.

    Attributes:
        frames, height, width: T, h and w.
        patch: p.
    """

    frames: int
    height: int
    width: int
    patch: int

    def images(self, x: Tensor) -> Tensor:
        p = self.patch
        grid = x.reshape(len(x), self.frames, self.height, self.width, -1, p, p).permute(0, 4, 1, 2, 5, 3, 6)
        videos = grid.reshape(len(x), -1, self.frames, self.height * p, self.width * p)
        return videos if self.frames > 1 else videos[:, :, 0]

    def back(self, images: Tensor) -> Tensor:
        p, batch, channels = self.patch, images.shape[0], images.shape[1]
        grid = images.reshape(batch, channels, self.frames, self.height, p, self.width, p)
        return grid.permute(0, 2, 3, 5, 1, 4, 6).reshape(batch, -1, channels * p * p)


def cell(pipe: Any) -> int:
    """Side of a latent cell in pixels."""
    names = ("vae_spatial_compression_ratio", "vae_scale_factor_spatial", "vae_scale_factor")
    known = (getattr(pipe, name, None) for name in names)
    return next((int(value) for value in known if isinstance(value, int | float) and value >= 1), 8)


def find_layout(pipe: Any, x: Tensor, asked: Mapping[str, Any]) -> Layout:
    """The layout of a state.

    Args:
        pipe: the pipeline.
        x: the state.
        asked: height, width and num_frames of the images in pixels, as far as they are known.

    Raises:
        UnwatchableError: the state is not recognized as images.
    """
    if hasattr(pipe, "vocoder"):
        raise UnwatchableError("Not watched: this pipeline makes sound.")
    if x.ndim == 4:
        return Layout()
    if x.ndim == 5:
        return _video_layout(pipe, x)
    height, width = asked.get("height"), asked.get("width")
    if x.ndim == 3 and height and width:
        for side in (cell(pipe), 2 * cell(pipe)):
            rows, columns = int(height) // side, int(width) // side
            frames, rest = divmod(x.shape[1], max(1, rows * columns))
            if rest == 0 and frames > 0 and (frames == 1 or asked.get("num_frames")):
                patch = side // cell(pipe)
                return Tokens(frames, rows, columns, patch if x.shape[2] % patch**2 == 0 else 1)
    raise UnwatchableError(
        f"Not watched: latents of shape {tuple(x.shape)} are not recognized as images; if they are packed, pass "
        "size=(height, width) to watching."
    )


def _video_layout(pipe: Any, x: Tensor) -> Layout:
    vae = getattr(getattr(pipe, "vae", None), "config", None)
    network = getattr(getattr(pipe, "transformer", None) or getattr(pipe, "unet", None), "config", None)
    for config, name in ((vae, "latent_channels"), (vae, "z_dim"), (network, "in_channels"), (network, "out_channels")):
        channels = getattr(config, name, None)
        fits = [axis for axis in (1, 2) if x.shape[axis] == channels]
        if len(fits) == 1:
            return Layout() if fits == [1] else FramesFirst()
    raise UnwatchableError(f"Not watched: it is not clear which axis of latents {tuple(x.shape)} holds the frames.")
