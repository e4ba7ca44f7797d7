"""The network of the bundled hand models: a small class-conditional U-Net on 64x64 pixels or 16x16 latent cells.

It is trained to predict ``v`` (a more stable target on a small budget) and returns ``eps``, like ComfyUI's eps models:
``eps = sqrt(1 - abar) x_t + sqrt(abar) v`` (Salimans & Ho 2022, Sec. 4, arXiv 2202.00512).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 1000  # training steps, linear betas
BETA_START, BETA_END = 1e-4, 0.02
CLASSES = 10  # the digits 0..9
NULL_CLASS = CLASSES  # the label "no digit", for the negative side of CFG
SCALED_LINEAR = (8.5e-4, 0.012)  # first and last beta of latent diffusion, linear in the square root
LATENT: dict[str, Any] = {"image_channels": 4, "patch": 1, "border": 2, "scaled_linear": True}


def alphas_cumprod(scaled_linear: bool = False) -> Tensor:
    """``abar`` of the 1000 steps, float32 [1000]: linear betas (Ho et al. 2020, arXiv 2006.11239), or for latents
    betas that are linear in the square root (Rombach et al. 2022, arXiv 2112.10752, code).
    """
    if scaled_linear:
        start, end = (math.sqrt(beta) for beta in SCALED_LINEAR)
        betas = torch.linspace(start, end, STEPS, dtype=torch.float64) ** 2
    else:
        betas = torch.linspace(BETA_START, BETA_END, STEPS, dtype=torch.float64)
    return torch.cumprod(1.0 - betas, 0).float()


def _timestep_embedding(t: Tensor, dim: int) -> Tensor:
    half = dim // 2
    freqs = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    args = t.float()[:, None] * freqs[None]
    return torch.cat([args.cos(), args.sin()], -1)


class _ResBlock(nn.Module):
    def __init__(self, ops: Any, channels: int, out_channels: int, emb: int) -> None:
        super().__init__()
        self.norm_in = ops.GroupNorm(8, channels)
        self.conv_in = ops.Conv2d(channels, out_channels, 3, padding=1)
        self.emb = ops.Linear(emb, 2 * out_channels)
        self.norm_out = ops.GroupNorm(8, out_channels)
        self.conv_out = ops.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = ops.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))
        scale, shift = self.emb(emb)[:, :, None, None].chunk(2, 1)
        h = self.norm_out(h) * (1 + scale) + shift
        return self.skip(x) + self.conv_out(F.silu(h))


class _Attention(nn.Module):
    def __init__(self, ops: Any, channels: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads = channels // head_dim
        self.norm = ops.GroupNorm(8, channels)
        self.qkv = ops.Conv2d(channels, 3 * channels, 1)
        self.out = ops.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).contiguous().unbind(1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, h, w))


class _Level(nn.Module):
    """A residual block, followed by self-attention on the coarser levels."""

    def __init__(self, ops: Any, channels: int, out_channels: int, emb: int, attention: bool) -> None:
        super().__init__()
        self.res = _ResBlock(ops, channels, out_channels, emb)
        self.attn = _Attention(ops, out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attn(self.res(x, emb))


class HandUNet(nn.Module):
    """Predicts ``eps`` of a noisy hand.

    ComfyUI builds it as ``HandUNet(device=…, operations=…, dtype=…)`` and calls it as
    ``model(x, timesteps, y=labels, context=…, transformer_options=…)``.

    Args:
        channels, mult: base width, and its multiple on each level.
        image_channels: channels of the image or latent.
        patch: side of the square that becomes one cell of the finest level.
        border: width of the reflection padding, which is cropped again; zero padding would leave a noisy rim.
        scaled_linear: the noise schedule, see ``alphas_cumprod``.
        operations: layer classes. ComfyUI's draw no initial weights, so its random generators stay untouched, and
            they let ComfyUI place the weights.
    """

    abar: Tensor

    def __init__(
        self,
        channels: int = 32,
        mult: tuple[int, ...] = (1, 2, 4),
        image_channels: int = 3,
        patch: int = 2,
        border: int = 4,
        scaled_linear: bool = False,
        operations: Any = nn,
        **_unused: Any,
    ) -> None:
        super().__init__()
        ops = operations
        self.patch, self.border = patch, border
        self.stride = patch * 2 ** (len(mult) - 1)
        self.dtype = torch.float32
        emb = channels * 4
        self.time_dim = max(64, channels)
        self.time = nn.Sequential(ops.Linear(self.time_dim, emb), nn.SiLU(), ops.Linear(emb, emb))
        self.label = ops.Embedding(CLASSES + 1, emb)
        self.stem = ops.Conv2d(image_channels * patch**2, channels, 3, padding=1)

        widths = [channels * m for m in mult]
        skips, width = [channels], channels
        self.down = nn.ModuleList()
        for i, out in enumerate(widths):
            self.down.append(_Level(ops, width, out, emb, attention=i > 0))
            width = out
            skips.append(width)
            if i < len(widths) - 1:
                self.down.append(ops.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
        self.middle = nn.ModuleList(
            [_Level(ops, width, width, emb, attention=True), _Level(ops, width, width, emb, False)]
        )
        self.up = nn.ModuleList()
        for i, out in reversed(list(enumerate(widths))):
            for _ in range(2):
                self.up.append(_Level(ops, width + skips.pop(), out, emb, attention=i > 0))
                width = out
            if i > 0:
                self.up.append(ops.Conv2d(width, width, 3, padding=1))
        self.norm = ops.GroupNorm(8, width)
        self.head = ops.Conv2d(width, image_channels * patch**2, 3, padding=1)
        self.register_buffer("abar", alphas_cumprod(scaled_linear), persistent=False)

    def velocity(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """``v`` [B,C,H,W] for ``x`` [B,C,H,W] at training steps ``t`` [B] with labels ``y`` [B]; H and W above 8."""
        height, width = x.shape[-2:]
        edge, pad_h, pad_w = self.border, *((-n - 2 * self.border) % self.stride for n in (height, width))
        x = F.pad(x, (edge, edge + pad_w, edge, edge + pad_h), mode="reflect")
        emb = F.silu(self.time(_timestep_embedding(t, self.time_dim)) + self.label(y))
        h = self.stem(F.pixel_unshuffle(x, self.patch))
        skips = [h]
        for block in self.down:
            h = block(h, emb) if isinstance(block, _Level) else block(h)
            skips.append(h)
        for block in self.middle:
            h = block(h, emb)
        for block in self.up:
            if isinstance(block, _Level):
                h = block(torch.cat([h, skips.pop()], 1), emb)
            else:
                h = block(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        out = F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch).float()
        return out[..., edge : edge + height, edge : edge + width]

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None, **_unused: Any) -> Tensor:
        """``eps`` [B,C,H,W] for VP-scaled ``x`` [B,C,H,W]; ``y`` [B] holds digits, None is the null label."""
        labels = torch.full_like(timesteps, NULL_CLASS, dtype=torch.long) if y is None else y.long()
        steps = timesteps.long().clamp(0, STEPS - 1)
        abar = self.abar[steps][:, None, None, None]
        v = self.velocity(x, steps, labels)
        return (1 - abar).sqrt() * x + abar.sqrt() * v
