"""BayesDiff: how uncertain a model is of each pixel, by a Laplace approximation of its last layer.

Kou et al., "BayesDiff: Estimating Pixel-wise Uncertainty in Diffusion via Bayesian Inference", ICLR 2024,
arXiv 2310.11142.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..correct.renoising import item_noise
from .last_layer import LastLayerTap, Layer

STEP_INTERVAL, DRAWS = 5, 10  # steps between two looks at the uncertainty, and draws of each look
Predict = Callable[[Tensor, int], Tensor]  # state, step -> predicted clean image


class LastLayerLaplace:
    """A diagonal Gaussian posterior over the weights of one layer.

    The precision of a weight is the prior's, plus the sum of its squared gradients over the images (the empirical
    Fisher information).

    Args:
        layer: the model's last convolution or linear layer, with a bias.
        prior_precision: above 0.

    Attributes:
        weight, bias: variances, shaped as those of the layer; before ``fit`` the prior's.
    """

    def __init__(self, layer: Layer, prior_precision: float = 1.0) -> None:
        if prior_precision <= 0:
            raise ValueError(f"The prior's precision must be above 0, got {prior_precision}.")
        if layer.bias is None:
            raise ValueError(
                "BayesDiff needs a model whose last layer has a bias, and this one has none: take another model."
            )
        self._layer, self._prior = layer, prior_precision
        self.weight = torch.full_like(layer.weight, 1 / prior_precision, dtype=torch.float32)
        self.bias = torch.full_like(layer.bias, 1 / prior_precision, dtype=torch.float32)

    def fit(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learns the posterior, by one pass over images.

        Args:
            pairs: what the layer took [1,…], and the gradient of that image's loss at what it answered, shaped as the
                answer; one image each. See ``fit_pair``.
        """
        weight, bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for features, gradient in pairs:
            with torch.inference_mode(False), torch.enable_grad():
                # tensors of an inference mode cannot be saved for a gradient; copies can
                given = (self._layer.weight, self._layer.bias, features)
                w, b, h = (t.detach().to(weight.device, torch.float32).clone() for t in given if t is not None)
                answer = self._apply(h, w.requires_grad_(), b.requires_grad_())
                gradients = torch.autograd.grad(answer, (w, b), gradient.to(answer).clone())
            for total, own in zip((weight, bias), gradients, strict=True):
                total += own.square()
        self.weight, self.bias = 1 / (self._prior + weight), 1 / (self._prior + bias)

    def variance(self, features: Tensor) -> Tensor:
        """Predictive variance of the layer's answer, exact: ``layer(h^2)`` with ``var W`` and ``var b`` for weights."""
        return self._apply(features.float().square(), self.weight, self.bias)

    def _apply(self, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = self._layer
        weight, bias = weight.to(features.device), bias.to(features.device)
        if isinstance(layer, nn.Linear):
            return F.linear(features, weight, bias)
        return F.conv2d(features, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    def save(self, path: Path) -> None:
        """Writes the posterior as safetensors."""
        save_file({"weight": self.weight.cpu().contiguous(), "bias": self.bias.cpu().contiguous()}, path)

    def load(self, path: Path) -> None:
        """Reads what ``save`` wrote.

        Raises:
            ValueError: it belongs to another layer, or is no such file.
        """
        wanted = {"weight": tuple(self.weight.shape), "bias": tuple(self.bias.shape)}
        try:
            state = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path.name} cannot be read as safetensors ({error}): fit it anew.") from error
        got = {name: tuple(value.shape) for name, value in state.items()}
        if got != wanted:
            raise ValueError(f"{path.name} holds {got}, but this model's last layer has {wanted}: fit it anew.")
        self.weight, self.bias = (state[name].to(self.weight.device) for name in ("weight", "bias"))


def fit_pair(
    tap: LastLayerTap, predict: Callable[[Tensor], Tensor], x: Tensor, clean: Tensor, sigma: float
) -> tuple[Tensor, Tensor]:
    """What ``LastLayerLaplace.fit`` takes of one image: features, and the gradient of its loss.

    The loss is half the squared error of eps, ``|D - x0|^2 / (2 sigma^2)``, a Gaussian likelihood.

    Args:
        tap: at the model's last layer, inside of its ``with`` block.
        predict: the predicted clean image of a state, one run of the layer.
        x: noisy state [1,C,H,W].
        clean: what it was made of.
        sigma: coefficient of its noise.
    """
    tap.clear()
    tap.differentiable = True
    try:
        with torch.inference_mode(False), torch.no_grad():
            denoised = predict(x.clone())
            loss = (denoised - clean.clone()).float().square().sum() / (2 * sigma**2)
            (gradient,) = torch.autograd.grad(loss, tap.answers[0])
        return tap.features[0].float(), gradient.float()
    finally:
        tap.differentiable = False
        tap.clear()


def as_offset(variances: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """Standard deviations to add at a layer, and how many times too large they are.

    Added as they are, small ones would drown in the rounding of a half-precision model. What is behind the layer is
    affine: what they change is divided by the same factor.
    """
    largest = max(float(variance.max()) for variance in variances) ** 0.5
    factor = 1 / largest if largest > 0 else 1.0
    return [variance.sqrt() * factor for variance in variances], factor


def guided_variance(scale: float, positive: Tensor, negative: Tensor) -> Tensor:
    """Variance of a prediction under classifier-free guidance: ``(1-g)^2 Var_u + g^2 Var_c``."""
    return (1 - scale) ** 2 * negative + scale**2 * positive


def step_variance(change: float, variance: Tensor, covariance: Tensor, slope_variance: Tensor) -> Tensor:
    """Variance of the next state ``x' = x + (sigma' - sigma) d`` of DDIM and Euler, ``d = (x - D) / sigma``.

    ``var + 2 (sigma' - sigma) Cov(x, d) + (sigma' - sigma)^2 Var(d)``. For states divided by alpha d is eps, and this
    is the paper's Eq. for VP states, ``(a'/a) var + 2 sqrt(a'/a) c Cov(x, eps) + c^2 Var(eps)`` with
    ``c = sqrt(1-a') - sqrt(a'/a) sqrt(1-a)``, divided by a'.
    """
    # Cov is estimated from few draws: it may drive the sum below zero, where no variance is
    return (variance + 2 * change * covariance + change**2 * slope_variance).clamp_min(0)


def sample_with_uncertainty(
    predict: Predict,
    spread: Callable[[Tensor, int, Tensor], Tensor],
    x: Tensor,
    sigmas: Sequence[float],
    draw: Sequence[torch.Generator],
    step_interval: int = STEP_INTERVAL,
    draws: int = DRAWS,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """DDIM (Euler) with the variance of its state beside it.

    Args:
        predict: predicted clean image D of a state at a step.
        spread: variance of D [B,C,H,W] for a state, a step and its D; asked right behind that prediction.
        x: state [B,C,H,W] at the first noise level, VP states divided by alpha.
        sigmas: noise levels of the steps, falling, and the last one.
        draw: the source of each image's draws.
        step_interval: the uncertainty of D is looked at every n-th step; between, it counts as zero (BayesDiff-Skip).
        draws: model calls of each look but the first that estimate Cov(x, d).
        on_step: is told each step, state and prediction.

    Returns:
        The state at the last noise level, the same as without a look at the uncertainty, and the variance of each
        value.
    """
    total = torch.zeros_like(x, dtype=torch.float32)
    for step, sigma in enumerate(sigmas[:-1]):
        change = sigmas[step + 1] - sigma
        denoised = predict(x, step)
        covariance = slope_variance = torch.zeros_like(total)
        if step % step_interval == 0:
            slope_variance = spread(x, step, denoised).float() / sigma**2
            if step > 0:  # before the first look the state is certain
                covariance = _covariance(predict, x, step, sigma, total, draw, draws)
        if on_step is not None:
            on_step(step, x, denoised)
        total = step_variance(change, total, covariance, slope_variance)
        x = x + (x - denoised) / sigma * change
    return x, total


def _covariance(
    predict: Predict, x: Tensor, step: int, sigma: float, total: Tensor, draw: Sequence[torch.Generator], draws: int
) -> Tensor:
    """Cov(x, d) over states drawn around ``x``; the uncertainty of the weights does not depend on them."""
    products, states, slopes = (torch.zeros_like(total) for _ in range(3))
    for _ in range(draws):
        shift = total.sqrt() * item_noise(x, list(draw))
        state = x + shift.to(x.dtype)
        slope = (state - predict(state, step)).float() / sigma
        products, states, slopes = products + shift * slope, states + shift, slopes + slope
    return products / draws - states / draws * (slopes / draws)


def score_of(variance: Tensor) -> Tensor:
    """How uncertain each image is [B]: the root of its mean variance; ranks images."""
    return variance.flatten(1).mean(1).sqrt()


def map_of(variance: Tensor) -> Tensor:
    """Standard deviation of each cell [B,H,W], over its channels."""
    return variance.mean(1).sqrt()
