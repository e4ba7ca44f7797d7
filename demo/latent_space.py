"""The latent space of the latent hand model: extra keys of its files, and the arguments of ComfyUI's classes."""

from __future__ import annotations

from typing import Any

CHANNELS = 4
DOWNSCALE = 4  # pixels per cell
FORMAT_KEYS = ("latent_scale", "latent_rgb_factors", "latent_rgb_bias")  # stored with the autoencoder's weights
# arguments of ComfyUI's AutoencoderKL
AUTOENCODER: dict[str, Any] = {
    "embed_dim": CHANNELS,
    "ddconfig": {
        "double_z": True, "z_channels": CHANNELS, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 2, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    },
}  # fmt: skip
