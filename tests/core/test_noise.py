"""Noise levels of VP, EDM and flow models, and re-noising."""

import itertools
import math

import numpy as np
import pytest
import torch

from asced_core import (
    DiscreteSchedule,
    FlowSchedule,
    NoiseLevel,
    clean_image,
    edm_level,
    flow_level,
    renoise,
    vp_level,
)
from asced_core.correct import noise_keys
from asced_core.noise import percent_at, predicted_noise, score

ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


@pytest.mark.parametrize("level", [vp_level(0.3), edm_level(2.5), flow_level(0.4)], ids=["vp", "edm", "flow"])
def test_noise_and_score_invert_the_state_equation(level, rng):
    x0, noise = (torch.randn(2, 3, 8, 8, generator=rng) for _ in range(2))
    x = level.alpha * x0 + level.sigma * noise
    torch.testing.assert_close(predicted_noise(x, x0, level), noise)
    # Eq. 5 in general form: x0 = (x + sigma^2 s) / alpha
    torch.testing.assert_close((x + level.sigma**2 * score(x, x0, level)) / level.alpha, x0)
    torch.testing.assert_close(x0 - x / level.alpha, level.weight * score(x, x0, level))


def test_levels_have_the_standard_coefficients():
    assert vp_level(0.25) == NoiseLevel(0.5, math.sqrt(0.75))
    assert vp_level(0.25).weight == pytest.approx(0.75 / 0.5)
    assert edm_level(3.0) == NoiseLevel(1.0, 3.0)
    assert flow_level(0.25) == NoiseLevel(0.75, 0.25)
    assert NoiseLevel(0.0, 1.0).weight == math.inf


@pytest.mark.parametrize(
    "make",
    [
        lambda: vp_level(1.5),
        lambda: flow_level(-0.1),
        lambda: edm_level(math.nan),
        lambda: NoiseLevel(0.0, 0.0),
        lambda: edm_level(-1),
    ],
)
def test_invalid_levels_are_rejected(make):
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
        make()


def test_the_linear_ddpm_schedule_has_sigma_3_4_in_the_middle():
    schedule = DiscreteSchedule.from_alphas_cumprod(ABAR)
    assert schedule.percent_to_sigma(0.5) == pytest.approx(3.44, abs=0.02)


@pytest.mark.parametrize(
    "sigma_at",
    [DiscreteSchedule.from_alphas_cumprod(ABAR).percent_to_sigma, lambda percent: 1 - percent],
    ids=["discrete", "flow"],
)
def test_percent_and_sigma_are_inverse_functions(sigma_at):
    percents = np.linspace(0.02, 0.98, 25)
    sigmas = [sigma_at(p) for p in percents]
    assert all(a > b for a, b in itertools.pairwise(sigmas))
    np.testing.assert_allclose([percent_at(sigma_at, s) for s in sigmas], percents, atol=1e-6)
    assert percent_at(sigma_at, 1e9) == pytest.approx(0, abs=1e-6) and percent_at(sigma_at, 0.0) == 1


def test_a_schedule_clamps_at_both_ends():
    schedule = DiscreteSchedule((0.1, 1.0, 10.0))
    assert schedule.percent_to_sigma(-1) == pytest.approx(10) and schedule.percent_to_sigma(2) == pytest.approx(0.1)
    assert schedule.percent_to_sigma(0.25) == pytest.approx(math.sqrt(10))  # log-linear in between


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_renoise_is_bit_identical_outside_the_mask(dtype, rng):
    x = torch.randn(2, 4, 8, 8, generator=rng).to(dtype)
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[0, 2:4, 3:5] = True
    poison = torch.full((2, 4, 8, 8), math.nan)
    poison[0, :, 2:4, 3:5] = 0.5
    out = renoise(x, poison, mask, alpha=0.8, sigma=0.6, noise=poison, perturbation=poison, gamma=0.5)
    assert out.dtype == dtype
    assert torch.equal(out[1], x[1])
    assert torch.equal(out[0][:, ~mask[0]], x[0][:, ~mask[0]])
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[0, :, 2:4, 3:5].float(), torch.full((4, 2, 2), 0.8 * 0.75 + 0.3), atol=4e-3, rtol=0)


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8), (2, 1, 8, 8), (1, 1, 8, 8)])
def test_renoise_accepts_masks_of_every_shape(shape, rng):
    x, clean, noise = (torch.randn(2, 3, 8, 8, generator=rng) for _ in range(3))
    out = renoise(x, clean, torch.ones(shape, dtype=torch.bool), alpha=0.6, sigma=0.8, noise=noise)
    torch.testing.assert_close(out, 0.6 * clean + 0.8 * noise)


def test_renoise_distinguishes_a_batch_of_masks_from_channels(rng):
    x = torch.randn(3, 3, 8, 8, generator=rng)  # as many images as channels
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[1] = True
    out = renoise(x, x, mask, alpha=0.0, sigma=0.0, noise=x)
    assert [bool(image.any()) for image in out] == [True, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": torch.ones(8, 8)}, "bool"),
        ({"mask": torch.ones(7, 8, dtype=torch.bool)}, "does not fit"),
        ({"gamma": -1.0}, "gamma"),
        ({"gamma": 0.5}, "perturbation"),
    ],
)
def test_renoise_rejects_wrong_arguments(change, message):
    x = torch.zeros(1, 3, 8, 8)
    call = {"mask": torch.ones(8, 8, dtype=torch.bool), "alpha": 1.0, "sigma": 1.0, "noise": x, **change}
    with pytest.raises(ValueError, match=message):
        renoise(x, x, call.pop("mask"), **call)


def test_noise_keys_belong_to_the_image_and_survive_rounding():
    noise = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    keys = noise_keys(noise)
    assert len(set(keys)) == 4 and all(key >= 0 for key in keys)
    assert noise_keys(noise[[2, 0]]) == [keys[2], keys[0]]
    assert noise_keys(noise * 1.000001) == keys == noise_keys(noise.double())
    assert noise_keys(noise.half()) == noise_keys(noise.half().float())


def test_images_without_noise_are_told_apart_by_their_latents():
    noise, latent = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    noise[1] = 0
    assert noise_keys(noise, latent) == [noise_keys(noise)[0], noise_keys(latent)[1]]
    assert noise_keys(torch.zeros(2, 1, 1, 1)) == [0, 0]


@pytest.mark.parametrize(
    ("kind", "scale"),
    [*itertools.product(["epsilon", "v_prediction", "sample"], ["vp", "edm", "flow"]), ("flow", "flow")],
)
def test_the_clean_image_comes_back_from_whatever_a_network_predicts(kind, scale, rng):
    image, noise = torch.randn(2, 1, 3, 8, 8, generator=rng)
    level = {"vp": vp_level(0.3), "edm": edm_level(2.5), "flow": flow_level(0.4)}[scale]
    x = level.alpha * image + level.sigma * noise
    norm = math.hypot(level.alpha, level.sigma)
    output = {
        "epsilon": noise,
        "v_prediction": (level.alpha * noise - level.sigma * image) / norm,
        "flow": noise - image,
        "sample": image,
    }[kind]
    assert torch.allclose(clean_image(x, output, level, kind), image, atol=1e-5)


def test_a_clean_image_that_cannot_be_told_says_so():
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"one of epsilon, v_prediction, flow, sample, got 'velocity'"):
        clean_image(x, x, edm_level(1.0), "velocity")
    with pytest.raises(ValueError, match="At alpha 0"):
        clean_image(x, x, NoiseLevel(0.0, 1.0), "epsilon")
    assert torch.equal(clean_image(x, x + 1, NoiseLevel(0.0, 1.0), "v_prediction"), -x - 1)  # zero terminal SNR


def test_a_flow_schedule_is_shifted_as_its_models_are():
    assert [FlowSchedule().percent_to_sigma(p) for p in (0, 0.25, 1, 2)] == [1, 0.75, 0, 0]
    assert FlowSchedule(3.0).percent_to_sigma(0.5) == pytest.approx(0.75)  # SD3, arXiv 2403.03206 Sec. 5.3.2
    with pytest.raises(ValueError, match="above 0, got 0"):
        FlowSchedule(0)
