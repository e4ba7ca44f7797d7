"""TTC in pixel space: the perturbation of Eq. 6 is drawn on the decoded picture and encoded again."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class PixelCodec(Protocol):
    """A model's autoencoder. Latents are the model's own, pictures RGB in -1 to 1."""

    def decode(self, latent: Tensor) -> Tensor:
        """[N,C,h,w] to [N,3,H,W]."""
        ...

    def encode(self, picture: Tensor) -> Tensor:
        """[N,3,H,W] to [N,C,h,w]."""
        ...


def perturb_in_pixels(clean: Tensor, picture: Tensor, perturbation: Tensor, codec: PixelCodec) -> Tensor:
    """The clean latent with its picture perturbed.

    What is added is the difference that the perturbation makes to the encoder, so that the error of decoding and
    encoding again stays out.

    Args:
        clean: predicted clean latent [N,C,h,w].
        picture: the same, decoded [N,3,H,W].
        perturbation: to be added to the picture [N,3,H,W], 0 outside of the regions.
        codec: see PixelCodec.
    """
    change = codec.encode(picture + perturbation) - codec.encode(picture)
    return clean + change.to(clean)
