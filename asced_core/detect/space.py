"""What the detector looks at: the latent itself, or an image made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..maps import as_images
from .upload import upload


@dataclass(frozen=True)
class Space:
    """The space that the detector works in.

    Attributes:
        name: see DetectionSettings.
        view: maps predicted clean images [B,C,H,W] to the watched signal [B,C',H',W'], images in about -1 to 1; None
            uses the predictions themselves.
    """

    name: str = "latent"
    view: Callable[[Tensor], Tensor] | None = None

    def __call__(self, denoised: Tensor) -> Tensor:
        """The watched signal of predictions [B,C,H,W] or [B,C,T,H,W], one image per frame."""
        images = as_images(denoised)
        return images if self.view is None else self.view(images)


def linear_rgb(to_rgb: Tensor) -> Callable[[Tensor], Tensor]:
    """A linear RGB view from a matrix [3,C+1]; its last column is the bias."""

    def view(latent: Tensor) -> Tensor:
        matrix = upload(to_rgb, latent.device)
        flat = matrix[:, :-1] @ latent.float().flatten(2)
        return flat.add_(matrix[:, -1:]).view(len(latent), 3, *latent.shape[2:])

    return view
