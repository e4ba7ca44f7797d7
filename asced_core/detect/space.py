"""What the detector looks at: the state's own cells, or a picture made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..maps import as_images


@dataclass(frozen=True)
class Space:
    """A space to look in.

    Attributes:
        name: see DetectionSettings.
        view: shows predicted clean images [B,C,H,W] as what is watched, [B,C',H',W'], pictures in about -1 to 1;
            None leaves them as they are.
    """

    name: str = "latent"
    view: Callable[[Tensor], Tensor] | None = None

    def __call__(self, denoised: Tensor) -> Tensor:
        """What is watched of predictions [B,C,H,W] or [B,C,T,H,W], one image a frame."""
        images = as_images(denoised)
        return images if self.view is None else self.view(images)


def linear_rgb(to_rgb: Tensor) -> Callable[[Tensor], Tensor]:
    """A view by a matrix [3,C+1] that maps a cell's channels to a color, its last column a bias."""

    def view(latent: Tensor) -> Tensor:
        matrix = to_rgb.to(latent.device)
        flat = matrix[:, :-1] @ latent.float().flatten(2)
        return flat.add_(matrix[:, -1:]).view(len(latent), 3, *latent.shape[2:])

    return view
