"""BayesDiff: how uncertain a model is of each pixel, by a Laplace approximation of its last layer.

Kou et al., "BayesDiff: Estimating Pixel-wise Uncertainty in Diffusion via Bayesian Inference", ICLR 2024,
arXiv 2310.11142.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

EVERY, DRAWS = 5, 10  # steps between two looks at the uncertainty, and draws of each look
Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]  # state, step -> mean and variance of eps


class LastLayerLaplace:
    """A diagonal Gaussian posterior over the weights of one convolution.

    The precision of a weight is the prior's, plus the sum of its squared gradients over the images (the empirical
    Fisher information).

    Args:
        conv: the model's last convolution, with a bias.
        prior_precision: above 0.

    Attributes:
        weight, bias: variances, shaped as those of the convolution; before ``fit`` the prior's.
    """

    def __init__(self, conv: nn.Conv2d, prior_precision: float = 1.0) -> None:
        if prior_precision <= 0:
            raise ValueError(f"The prior's precision must be above 0, got {prior_precision}.")
        if conv.bias is None:
            raise ValueError("The last convolution has no bias; one with a bias was expected.")
        self._conv, self._prior = conv, prior_precision
        self.weight = torch.full_like(conv.weight, 1 / prior_precision, dtype=torch.float32)
        self.bias = torch.full_like(conv.bias, 1 / prior_precision, dtype=torch.float32)

    def fit(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learns the posterior, by one pass over images.

        Args:
            pairs: features that the convolution takes [1,C,H,W], and what it ought to answer [1,C',H,W]; one image
                each. The loss is the squared error's half, a Gaussian likelihood.
        """
        weight, bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for features, target in pairs:
            with torch.enable_grad():
                w = self._conv.weight.detach().float().requires_grad_()
                b = self._conv.bias.detach().float().requires_grad_()  # type: ignore[union-attr]
                loss = (self._convolve(features.detach().float(), w, b) - target.float()).square().sum() / 2
                for total, gradient in zip((weight, bias), torch.autograd.grad(loss, (w, b)), strict=True):
                    total += gradient.square()
        self.weight, self.bias = 1 / (self._prior + weight), 1 / (self._prior + bias)

    def variance(self, features: Tensor) -> Tensor:
        """Predictive variance of the convolution's answer [B,C',H,W], exact: ``conv(h^2, var W) + var b``."""
        return self._convolve(features.float().square(), self.weight, self.bias)

    def _convolve(self, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        conv = self._conv
        return F.conv2d(features, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def save(self, path: Path) -> None:
        """Writes the posterior as safetensors."""
        save_file({"weight": self.weight.cpu().contiguous(), "bias": self.bias.cpu().contiguous()}, path)

    def load(self, path: Path) -> None:
        """Reads what ``save`` wrote.

        Raises:
            ValueError: it belongs to another convolution.
        """
        state = load_file(path)
        got = {name: tuple(value.shape) for name, value in state.items()}
        wanted = {"weight": tuple(self.weight.shape), "bias": tuple(self.bias.shape)}
        if got != wanted:
            raise ValueError(f"{path.name} holds {got}, but this model's last layer has {wanted}: fit it anew.")
        self.weight, self.bias = (state[name].to(self.weight.device) for name in ("weight", "bias"))


def guided_variance(scale: float, positive: Tensor, negative: Tensor) -> Tensor:
    """Variance of eps under classifier-free guidance: ``(1-g)^2 Var_u + g^2 Var_c``."""
    return (1 - scale) ** 2 * negative + scale**2 * positive


def step_variance(abar: float, abar_next: float, variance: Tensor, covariance: Tensor, eps_variance: Tensor) -> Tensor:
    """Variance of the next state of DDIM.

    ``(a'/a) var + 2 sqrt(a'/a) c Cov(x, eps) + c^2 Var(eps)``, ``c = sqrt(1-a') - sqrt(a'/a) sqrt(1-a)``.
    """
    ratio = math.sqrt(abar_next / abar)
    c = math.sqrt(1 - abar_next) - ratio * math.sqrt(1 - abar)
    # Cov is estimated from few draws: it may drive the sum below zero, where no variance is
    return (ratio**2 * variance + 2 * ratio * c * covariance + c**2 * eps_variance).clamp_min(0)


def sample_with_uncertainty(
    predict: Predict,
    x: Tensor,
    abars: Sequence[float],
    generator: torch.Generator,
    every: int = EVERY,
    draws: int = DRAWS,
) -> tuple[Tensor, Tensor]:
    """DDIM with the variance of its state beside it.

    Args:
        predict: mean and variance of eps [B,C,H,W] for a state at a step.
        x: pure noise [B,C,H,W].
        abars: of each step, rising, and the last one, 1 for a clean image.
        generator: of the draws, on the CPU.
        every: the uncertainty of eps is looked at every n-th step; between, it counts as zero (BayesDiff-Skip).
        draws: model calls of each look that estimate Cov(x, eps).

    Returns:
        The images, the same as without a look at the uncertainty, and the variance of each value.
    """
    total = torch.zeros_like(x)
    for step, (a, b) in enumerate(itertools.pairwise(abars)):
        eps, eps_variance = predict(x, step)
        covariance = torch.zeros_like(x)
        looks = step % every == 0
        if looks and bool((total > 0).any()):
            states, answers = [], []
            for _ in range(draws):
                noise = torch.randn(x.shape, generator=generator).to(x.device)
                states.append(x + total.sqrt() * noise)
                drawn, variance = predict(states[-1], step)
                again = torch.randn(x.shape, generator=generator).to(x.device)
                answers.append(drawn + variance.sqrt() * again)
            xs, es = torch.stack(states), torch.stack(answers)
            covariance = (xs * es).mean(0) - xs.mean(0) * es.mean(0)
        total = step_variance(a, b, total, covariance, eps_variance if looks else torch.zeros_like(x))
        x = math.sqrt(b / a) * (x - math.sqrt(1 - a) * eps) + math.sqrt(1 - b) * eps
    return x, total
