"""Image and video latents with default settings: a lasting patch is detected, and nothing is marked without one.

The predictions come from a real run: Euler steps on the noise levels of SD, or of a flow model with SD3's shift, with
the exact posterior mean of a known prior: an object of smooth waves on an empty background.
"""

import itertools

import numpy as np
import pytest
import torch

from asced_core import DetectionSettings, DiscreteSchedule, Schedule, Trajectory, Watcher, detect, edm_level, flow_level
from asced_core.maps import as_images

SIDE, STEPS, WAVES = 64, 25, 5
# the levels of latent diffusion: betas linear in the square root
_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
SD = (4, DiscreteSchedule.from_alphas_cumprod((1 - _BETAS).cumprod(0).tolist()).percent_to_sigma, edm_level)
FLOW = (16, lambda percent: 3 * (1 - percent) / (1 + 2 * (1 - percent)), flow_level)  # shift 3, Esser et al. 2024
MODELS = pytest.mark.parametrize("model", [SD, FLOW], ids=["SD, 4 channels", "flow, 16 channels"])
CONTRAST = 0.7  # of the patch; the spread of the object's channels is 0.3 to 1.5
LASTS, PASSES, NEVER = [0, 0, 0, 0.3, 0.6, 1, 1, 1], [0, 0, 0.5, 1, 0.5, 0, 0, 0], [0] * 8  # over the window's 8 steps
PATCH = np.zeros((SIDE, SIDE), bool)
PATCH[24:36, 30:42] = True


class Posterior:
    """``E[x0 | x]``, where x0 is a sum of waves with independent normal weights, in randomly mixed channels."""

    def __init__(self, channels, rng):
        y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
        shape = torch.exp(-((x / 0.55) ** 4 + (y / 0.55) ** 4))
        waves = [
            shape * torch.cos(torch.pi * i * (x + 1) / 2) * torch.cos(torch.pi * j * (y + 1) / 2) / (1 + i + j)
            for i in range(WAVES)
            for j in range(WAVES)
        ]
        self.waves = torch.stack(waves).flatten(1)
        self.mixing = torch.linalg.qr(torch.randn(channels, channels, generator=rng))[0]
        self.spread = torch.linspace(1.5, 0.3, channels)

    def __call__(self, x, level):
        own = torch.einsum("ij,bj...->bi...", self.mixing, as_images(x)).flatten(2)
        clean = torch.empty_like(own)
        for channel, spread in enumerate(self.spread):
            basis = level.alpha * spread * self.waves
            normal = basis @ basis.T + level.sigma**2 * torch.eye(len(basis))
            weights = torch.linalg.solve(normal, basis @ own[:, channel].T)
            clean[:, channel] = weights.T @ (spread * self.waves)
        clean = torch.einsum("ji,bj...->bi...", self.mixing, clean).view_as(as_images(x))
        return clean if x.ndim == 4 else clean.unflatten(0, (len(x), -1)).movedim(1, 2)


def _run(model, seed, weights, places=(0,), frames=()):
    """A run of two items; a patch is added to some images, with the given weights over the window's steps.

    Returns the detections of the images, and the window's predictions [N,B,C,H,W].
    """
    channels, sigma_at, level_of = model
    rng = torch.Generator().manual_seed(seed)
    denoise = Posterior(channels, rng)
    patch = torch.randn(channels, 1, 1, generator=rng) * torch.from_numpy(PATCH)
    patch *= CONTRAST / patch[:, PATCH].square().mean().sqrt()
    sigmas = [sigma_at(i / STEPS) for i in range(STEPS)] + [0.0]
    settings = DetectionSettings()
    trajectory = Trajectory(Schedule.of([level_of(s) for s in sigmas], settings, sigma_at), Watcher(settings))
    window = trajectory.schedule.window
    x = sigmas[0] * torch.randn(2, channels, *frames, SIDE, SIDE, generator=rng)
    seen = []
    for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
        denoised = denoise(x, level_of(sigma))
        weight = weights[min(max(0, step - window.first), len(weights) - 1)]
        for place in places:
            as_images(denoised)[place] += weight * patch
        trajectory.observe(step, x, denoised)
        if trajectory.is_due(step):
            trajectory.decide()
            return trajectory.detections, torch.stack(seen)
        if step >= window.first:
            seen.append(as_images(denoised).clone())
        x = x + (after - sigma) * (x - denoised) / sigma
    raise AssertionError("the run made no decision")


def _is_patch(mask):
    return (mask & PATCH).sum() > 0.9 * (mask | PATCH).sum()


@MODELS
@pytest.mark.parametrize("seed", range(3))
def test_a_lasting_patch_is_detected_and_a_passing_one_is_weak(model, seed):
    (found, other), frames = _run(model, seed, LASTS)
    assert _is_patch(found.mask) and len(found.regions) == 1
    assert not other.mask.any()
    alone = detect(frames[:, 0])
    assert np.array_equal(alone.mask, found.mask) and alone.score == pytest.approx(found.score, rel=1e-4)
    assert not any(d.mask.any() for d in _run(model, seed, NEVER)[0])
    passing = max(d.score for d in _run(model, seed, PASSES)[0])
    assert passing - 1 < 0.6 * (found.score - 1)  # at most slightly above the threshold, see test_lasting


def test_each_frame_of_a_video_is_watched_separately():
    """Two videos of five frames; the second one has the patch in frames 1 to 3."""
    places = (5 + 1, 5 + 2, 5 + 3)
    found, frames = _run(FLOW, 1, LASTS, places, frames=(5,))
    assert [i for i, d in enumerate(found) if d.mask.any()] == list(places)
    assert all(_is_patch(found[i].mask) for i in places)
    assert all(np.array_equal(detect(frames[:, i]).mask, found[i].mask) for i in range(10))
    assert not any(d.mask.any() for d in _run(FLOW, 1, NEVER, places, frames=(5,))[0])
