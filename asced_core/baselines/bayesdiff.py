"""BayesDiff: pixel-wise uncertainty of a model, from a Laplace approximation of its last layer.

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

STEP_INTERVAL, DRAWS = 5, 10  # steps between two uncertainty estimates, and draws per estimate
Predict = Callable[[Tensor, int], Tensor]  # state, step -> predicted clean image


class LastLayerLaplace:
    """A diagonal Gaussian posterior over the weights of one layer.

    The precision of a weight is the prior precision plus the sum of its squared gradients over the images (the
    empirical Fisher information).

    Args:
        layer: the model's last convolution or linear layer, with a bias.
        prior_precision: above 0.

    Attributes:
        weight, bias: variances, with the shapes of the layer's weight and bias; before ``fit`` those of the prior.

    Raises:
        ValueError: the prior precision is not above 0, or the layer has no bias.
    """

    def __init__(self, layer: Layer, prior_precision: float = 1.0) -> None:
        if prior_precision <= 0:
            raise ValueError(f"prior_precision must be above 0, got {prior_precision}.")
        if layer.bias is None:
            raise ValueError(
                "BayesDiff needs a model whose last layer has a bias, but this one has none: use another model."
            )
        self._layer, self._prior = layer, prior_precision
        self.weight = torch.full_like(layer.weight, 1 / prior_precision, dtype=torch.float32)
        self.bias = torch.full_like(layer.bias, 1 / prior_precision, dtype=torch.float32)

    def fit(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fits the posterior in one pass over images.

        Args:
            pairs: for each image, the layer's input [1,…] and the gradient of the image's loss with respect to the
                layer's output, same shape as the output. See ``fit_pair``.
        """
        weight, bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for features, gradient in pairs:
            with torch.inference_mode(False), torch.enable_grad():
                # inference tensors cannot be saved for backward, but copies can
                given = (self._layer.weight, self._layer.bias, features)
                w, b, h = (t.detach().to(weight.device, torch.float32).clone() for t in given if t is not None)
                answer = self._apply(h, w.requires_grad_(), b.requires_grad_())
                gradients = torch.autograd.grad(answer, (w, b), gradient.to(answer).clone())
            for total, own in zip((weight, bias), gradients, strict=True):
                total += own.square()
        self.weight, self.bias = 1 / (self._prior + weight), 1 / (self._prior + bias)

    def variance(self, features: Tensor) -> Tensor:
        """Exact predictive variance of the layer's output: ``layer(h^2)`` with ``var W`` and ``var b`` as weights."""
        return self._apply(features.float().square(), self.weight, self.bias)

    def _apply(self, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = self._layer
        weight, bias = weight.to(features.device), bias.to(features.device)
        if isinstance(layer, nn.Linear):
            return F.linear(features, weight, bias)
        return F.conv2d(features, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    def save(self, path: Path) -> None:
        """Writes the posterior as a safetensors file."""
        save_file({"weight": self.weight.cpu().contiguous(), "bias": self.bias.cpu().contiguous()}, path)

    def load(self, path: Path) -> None:
        """Reads what ``save`` wrote.

        Raises:
            ValueError: the file cannot be read, or belongs to another layer.
        """
        wanted = {"weight": tuple(self.weight.shape), "bias": tuple(self.bias.shape)}
        try:
            state = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path.name} cannot be read as safetensors ({error}): fit it again.") from error
        got = {name: tuple(value.shape) for name, value in state.items()}
        if got != wanted:
            raise ValueError(f"{path.name} holds {got}, but this model's last layer needs {wanted}: fit it again.")
        self.weight, self.bias = (state[name].to(self.weight.device) for name in ("weight", "bias"))


def fit_pair(
    tap: LastLayerTap, predict: Callable[[Tensor], Tensor], x: Tensor, clean: Tensor, sigma: float
) -> tuple[Tensor, Tensor]:
    """The pair that ``LastLayerLaplace.fit`` needs for one image: features, and the gradient of the loss.

    The loss is half the squared error of eps, ``|D - x0|^2 / (2 sigma^2)``, a Gaussian likelihood.

    Args:
        tap: on the model's last layer, inside its ``with`` block.
        predict: maps a state to the predicted clean image; runs the layer once.
        x: noisy state [1,C,H,W].
        clean: the clean image x0, same shape.
        sigma: coefficient of the noise in ``x``.
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
    """Standard deviations to add to a layer's output, and the factor that they are scaled by.

    Without scaling, small values would be lost in the rounding of a half-precision model. Everything after the layer is
    affine, so the resulting change can be divided by the same factor.
    """
    largest = max(float(variance.max()) for variance in variances) ** 0.5
    factor = 1 / largest if largest > 0 else 1.0
    return [variance.sqrt() * factor for variance in variances], factor


def guided_variance(scale: float, positive: Tensor, negative: Tensor) -> Tensor:
    """Variance of a prediction under classifier-free guidance: ``(1-g)^2 Var_u + g^2 Var_c``."""
    return (1 - scale) ** 2 * negative + scale**2 * positive


def step_variance(change: float, variance: Tensor, covariance: Tensor, slope_variance: Tensor) -> Tensor:
    """Variance of the next state ``x' = x + (sigma' - sigma) d`` of DDIM and Euler, ``d = (x - D) / sigma``.

    ``var + 2 (sigma' - sigma) Cov(x, d) + (sigma' - sigma)^2 Var(d)``. For states divided by alpha, d is eps, and this
    is the paper's equation for VP states, ``(a'/a) var + 2 sqrt(a'/a) c Cov(x, eps) + c^2 Var(eps)`` with
    ``c = sqrt(1-a') - sqrt(a'/a) sqrt(1-a)``, divided by a'.

    Args:
        change: ``sigma' - sigma``.
        variance: variance of x, any shape.
        covariance: Cov(x, d), same shape.
        slope_variance: Var(d), same shape.
    """
    # Cov is estimated from few draws, so the sum may fall below zero, which no variance can
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
    """DDIM (Euler) sampling that propagates the variance of its state.

    Args:
        predict: maps a state and a step to the predicted clean image D.
        spread: maps a state, a step and its D to the variance of D [B,C,H,W]; called right after that prediction.
        x: state [B,C,H,W] at the first noise level; VP states divided by alpha.
        sigmas: noise levels of the steps, decreasing, and of the final state.
        draw: one generator per image for its draws.
        step_interval: the variance of D is estimated every n-th step and taken as zero in between (BayesDiff-Skip).
        draws: model calls per estimate of Cov(x, d); the first step needs none.
        on_step: called with each step, state and prediction.

    Returns:
        The final state, unaffected by the estimates, and its variance, float32 [B,C,H,W].
    """
    total = torch.zeros_like(x, dtype=torch.float32)
    for step, sigma in enumerate(sigmas[:-1]):
        change = sigmas[step + 1] - sigma
        denoised = predict(x, step)
        covariance = slope_variance = torch.zeros_like(total)
        if step % step_interval == 0:
            slope_variance = spread(x, step, denoised).float() / sigma**2
            if step > 0:  # at the first step the state is certain
                covariance = _covariance(predict, x, step, sigma, total, draw, draws)
        if on_step is not None:
            on_step(step, x, denoised)
        total = step_variance(change, total, covariance, slope_variance)
        x = x + (x - denoised) / sigma * change
    return x, total


def _covariance(
    predict: Predict, x: Tensor, step: int, sigma: float, total: Tensor, draw: Sequence[torch.Generator], draws: int
) -> Tensor:
    """Cov(x, d) over states drawn around ``x``; the weight uncertainty does not depend on these draws."""
    products, states, slopes = (torch.zeros_like(total) for _ in range(3))
    for _ in range(draws):
        shift = total.sqrt() * item_noise(x, list(draw))
        state = x + shift.to(x.dtype)
        slope = (state - predict(state, step)).float() / sigma
        products, states, slopes = products + shift * slope, states + shift, slopes + slope
    return products / draws - states / draws * (slopes / draws)


def score_of(variance: Tensor) -> Tensor:
    """Uncertainty of each image [B]: the root of its mean variance, to rank images."""
    return variance.flatten(1).mean(1).sqrt()


def map_of(variance: Tensor) -> Tensor:
    """Standard deviation of each cell [B,H,W]: the root of its mean variance over the channels."""
    return variance.mean(1).sqrt()
