"""BayesDiff: posterior, predictive variance and its propagation, compared with formulas and Monte Carlo."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from asced_core.baselines import bayesdiff
from asced_core.baselines.last_layer import LastLayerTap, find_last_layer
from asced_core.correct.renoising import item_generator


class Net(nn.Module):
    """The end of a small U-Net: a convolution, a pixel shuffle, a scale; the linear layer does not run last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 12, 3, padding=1)
        self.body = nn.Conv2d(12, 8, 3, padding=1)
        self.time = nn.Linear(1, 8)

    def forward(self, x):
        h = self.body(nn.functional.pixel_unshuffle(x, 2)) + self.time(torch.ones(1, 1))[..., None, None]
        return 0.5 * nn.functional.pixel_shuffle(self.head(torch.tanh(h)), 2)


def laplace(layer, shape):
    torch.manual_seed(0)
    ours = bayesdiff.LastLayerLaplace(layer)
    pairs = [(torch.randn(shape), torch.randn_like(layer(torch.zeros(shape)))) for _ in range(5)]
    ours.fit(pairs)
    return ours, pairs


@pytest.fixture(params=["conv", "linear"])
def fitted(request):
    torch.manual_seed(1)
    layer = nn.Conv2d(4, 3, 3, padding=1) if request.param == "conv" else nn.Linear(4, 3)
    return layer, *laplace(layer, (1, 4, 8, 8) if request.param == "conv" else (1, 64, 4))


def test_the_posterior_is_the_empirical_fisher_of_each_image(fitted):
    layer, ours, pairs = fitted
    channels = (0, 2, 3) if isinstance(layer, nn.Conv2d) else (0, 1)
    fisher = sum(gradient.sum(channels) ** 2 for _, gradient in pairs)  # a bias' gradient is the sum over the output
    torch.testing.assert_close(ours.bias, 1 / (1 + fisher))
    if isinstance(layer, nn.Linear):
        fisher = sum((gradient[0].T @ features[0]) ** 2 for features, gradient in pairs)
        torch.testing.assert_close(ours.weight, 1 / (1 + fisher))


def test_the_predictive_variance_equals_monte_carlo(fitted):
    layer, ours, pairs = fitted
    generator = torch.Generator().manual_seed(2)
    outputs = []
    for _ in range(4000):
        drawn = {
            name: mean + variance.sqrt() * torch.randn(mean.shape, generator=generator)
            for name, mean, variance in (("weight", layer.weight, ours.weight), ("bias", layer.bias, ours.bias))
        }
        outputs.append(torch.func.functional_call(layer, drawn, (pairs[0][0],)).detach())
    torch.testing.assert_close(ours.variance(pairs[0][0]), torch.stack(outputs).var(0), rtol=0.15, atol=0)


def test_the_last_layer_is_the_one_that_runs_last():
    net, x = Net(), torch.randn(1, 3, 8, 8)
    assert find_last_layer(net, lambda: net(x)) is net.head
    assert not any(m._forward_hooks for m in net.modules())
    with pytest.raises(ValueError, match="No ordinary convolution or linear layer of ReLU ran: use a PyTorch model"):
        find_last_layer(nn.ReLU(), lambda: None)


def test_an_offset_at_the_layer_gives_the_variance_of_the_prediction():
    """Through everything after the layer, even for tiny variances; compared with randomly drawn weights."""
    torch.manual_seed(0)
    net, x = Net(), torch.randn(1, 3, 8, 8)
    ours = bayesdiff.LastLayerLaplace(net.head)
    ours.weight, ours.bias = ours.weight * 1e-8, ours.bias * 1e-8
    with torch.no_grad(), LastLayerTap(net.head) as tap:
        plain = net(x)
        offsets, factor = bayesdiff.as_offset([ours.variance(h) for h in tap.features])
        tap.clear()
        tap.offsets = offsets
        variance = ((net(x) - plain) / factor).square()
    generator, outputs = torch.Generator().manual_seed(2), []
    for _ in range(3000):
        weight = net.head.weight + 1e-4 * torch.randn(net.head.weight.shape, generator=generator)
        bias = net.head.bias + 1e-4 * torch.randn(net.head.bias.shape, generator=generator)
        drawn = {"head.weight": weight, "head.bias": bias}
        outputs.append(torch.func.functional_call(net, drawn, (x,)).detach().double())
    torch.testing.assert_close(variance, torch.stack(outputs).var(0).float(), rtol=0.2, atol=0)
    assert torch.equal(net(x), plain) and not net.head._forward_hooks  # no hook remains


def test_the_gradient_of_an_image_matches_autograd():
    """Over the whole network; also in inference mode, which ComfyUI uses."""
    torch.manual_seed(0)
    net, x, clean, sigma = Net(), torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8), 1.7
    loss = (net(x) - clean).square().sum() / (2 * sigma**2)
    expected = torch.autograd.grad(loss, (net.head.weight, net.head.bias))
    for context in (torch.enable_grad, torch.inference_mode):
        ours = bayesdiff.LastLayerLaplace(net.head)
        with context(), LastLayerTap(net.head) as tap:
            ours.fit([bayesdiff.fit_pair(tap, net, x, clean, sigma)])
        torch.testing.assert_close(ours.weight, 1 / (1 + expected[0] ** 2))
        torch.testing.assert_close(ours.bias, 1 / (1 + expected[1] ** 2))


def test_a_posterior_loads_again_and_is_rejected_for_another_layer(fitted, tmp_path):
    layer, ours, pairs = fitted
    file = tmp_path / "laplace.safetensors"
    ours.save(file)
    other = bayesdiff.LastLayerLaplace(layer)
    other.load(file)
    assert torch.equal(other.variance(pairs[0][0]), ours.variance(pairs[0][0]))
    with pytest.raises(ValueError, match="fit it again"):
        bayesdiff.LastLayerLaplace(nn.Conv2d(2, 3, 3)).load(file)
    file.write_text("hello")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        other.load(file)
    with pytest.raises(ValueError, match="bias"):
        bayesdiff.LastLayerLaplace(nn.Conv2d(2, 3, 3, bias=False))
    with pytest.raises(ValueError, match="above 0"):
        bayesdiff.LastLayerLaplace(layer, 0)


def test_the_variance_of_a_run_equals_monte_carlo_for_linear_eps():
    """eps = k x + noise of known variance: the state of DDIM is Gaussian, and its variance can be sampled.

    k is small, because the method ignores the contribution of the spread of x to Var(eps), which is k^2 times it.
    """
    sigmas, k, spread = (3.0, 1.5, 0.8, 0.3, 0.0), 0.1, 0.25

    def predict(x, step):
        return x - sigmas[step] * k * x

    def spread_of(x, step, denoised):
        assert torch.equal(denoised, predict(x, step))
        return torch.full_like(x, spread * sigmas[step] ** 2)

    x = torch.full((1, 1, 40, 40), 0.7)
    seen = []
    image, variance = bayesdiff.sample_with_uncertainty(
        predict, spread_of, x, sigmas, [item_generator(0, 0)], step_interval=1, draws=200,
        on_step=lambda step, *_: seen.append(step),
    )  # fmt: skip
    assert seen == [0, 1, 2, 3]
    generator = torch.Generator().manual_seed(1)
    drawn, clean = x.expand(200, 1, 40, 40).clone(), x.clone()
    for a, b in itertools.pairwise(sigmas):
        eps = k * drawn + math.sqrt(spread) * torch.randn(drawn.shape, generator=generator)
        drawn, clean = drawn + (b - a) * eps, clean + (b - a) * k * clean
    torch.testing.assert_close(image, clean)
    assert float(variance.mean()) == pytest.approx(float(drawn.var()), rel=0.05)


def test_a_step_matches_the_papers_formula_for_vp_states():
    a, b = 0.3, 0.6  # abar of two steps
    variance, covariance, eps_variance = torch.tensor(0.2), torch.tensor(-0.05), torch.tensor(0.4)
    ratio = math.sqrt(b / a)
    c = math.sqrt(1 - b) - ratio * math.sqrt(1 - a)
    vp = ratio**2 * variance + 2 * ratio * c * covariance + c**2 * eps_variance
    sigma, sigma_next = (math.sqrt((1 - abar) / abar) for abar in (a, b))
    ours = bayesdiff.step_variance(sigma_next - sigma, variance / a, covariance / math.sqrt(a), eps_variance)
    torch.testing.assert_close(ours * b, vp)


def test_each_image_has_its_own_draws():
    """An image's uncertainty does not depend on the rest of the batch."""
    sigmas = (2.0, 1.0, 0.5, 0.0)

    def run(x, draw):
        return bayesdiff.sample_with_uncertainty(
            lambda x, _: torch.tanh(x), lambda x, *_: x.square(), x, sigmas, draw, step_interval=1, draws=3
        )

    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    _, both = run(x, [item_generator(7, 0), item_generator(7, 1)])
    _, second = run(x[1:], [item_generator(7, 1)])
    assert torch.equal(both[1:], second)
    assert bayesdiff.map_of(both).shape == (2, 4, 4) and bayesdiff.score_of(both).shape == (2,)


def test_guidance_adds_the_variances_of_both_predictions():
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    assert float(bayesdiff.guided_variance(3.0, one, two)) == 4 * 2 + 9 * 1
