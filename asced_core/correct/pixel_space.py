"""TTC in pixel space: the perturbation of Eq. 6 is added to the decoded image, which is then re-encoded."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class PixelCodec(Protocol):
    """A model's autoencoder. Latents are in the model's own scale, images are RGB in -1 to 1."""

    def decode(self, latent: Tensor) -> Tensor:
        """[N,C,h,w] to [N,3,H,W]."""
        ...

    def encode(self, picture: Tensor) -> Tensor:
        """[N,3,H,W] to [N,C,h,w]."""
        ...


def perturb_in_pixels(clean: Tensor, picture: Tensor, perturbation: Tensor, codec: PixelCodec) -> Tensor:
    """The clean latent, perturbed in pixel space; same shape and dtype as ``clean``.

    Only the difference between the encodings with and without the perturbation is added, so the round-trip error of
    the autoencoder cancels out.

    Args:
        clean: predicted clean latent [N,C,h,w].
        picture: ``clean``, decoded [N,3,H,W].
        perturbation: added to the picture [N,3,H,W]; 0 outside the regions.
        codec: see PixelCodec.
    """
    change = codec.encode(picture + perturbation) - codec.encode(picture)
    return clean + change.to(clean)
