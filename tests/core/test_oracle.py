"""Equality with results of the authors' code: detection, correction, and a whole loop."""

import lzma
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from asced_core import (
    CorrectionSettings,
    DetectionSettings,
    NoiseLevel,
    detect,
    find_window,
    renoise,
    vp_level,
)
from asced_core.maps import dilate

from .runs import trajectory_of

DETECTION = [
    "01_two_blobs_256",
    "02_expand5_mad4_192",
    "03_border_128",
    "04_thin_128",
    "05_small_96",
    "06_large_128",
    "07_constant_64",
    "08_pure_noise_128",
    "09_flat_zero_mad_96",
    "10_single_channel_160",
    "11_trail_evenwidth_144x208",
    "12_connectivity4_112",
    "13_median_tie_64x96",
    "14_strict_bounds_96",
]
CORRECTION = ["c1_correct_default", "c2_correct_perturb", "c3_correct_border_noexpand", "c4_correct_reverse0"]


def _settings(case, **changes):
    return DetectionSettings(
        mode="reference",
        mad_scale=float(case["mad_scale"]),
        min_area=int(case["min_area"]),
        max_area=int(case["max_area"]),
        min_width=int(case["min_width"]),
        expand=int(case["expand_size"]),
        **changes,
    )


@pytest.mark.parametrize("name", DETECTION)
@pytest.mark.parametrize("as_tensor", [False, True], ids=["array", "tensor"])
def test_reference_equals_the_authors_masks_pixel_by_pixel(oracle, name, as_tensor):
    case = oracle(name)
    frames = torch.from_numpy(case["frames"]) if as_tensor else case["frames"]
    found = detect(frames, _settings(case))
    assert np.array_equal(found.ratio > 0, case["raw_mask"])
    assert np.array_equal(found.mask, case["mask"])
    np.testing.assert_allclose(found.thresholds, case["threshold"], atol=5e-5)


@pytest.mark.parametrize("name", CORRECTION)
def test_correction_equals_the_authors_to_2e6(oracle, name):
    case = oracle(name)
    level = vp_level(float(case["alpha_bar"]))
    mask = dilate(case["mask"], int(case["expand_pixels"]))
    assert np.array_equal(mask, case["mask_expanded"])
    x = torch.from_numpy(case["x_t"])
    out = renoise(
        x,
        torch.from_numpy(case["pred_x0"]),
        torch.from_numpy(mask),
        alpha=level.alpha,
        sigma=level.sigma,
        noise=torch.from_numpy(case["noise_q"]),
        perturbation=torch.from_numpy(case["noise_ptb"]),
        gamma=float(case["noise_ptb_scale"]),
    )
    torch.testing.assert_close(out, torch.from_numpy(case["output"]), atol=2e-6, rtol=0)
    assert torch.equal(out[:, :, ~mask], x[:, :, ~mask])


def _toy_denoiser(case, x, index):
    """The exact denoiser of the loop case, with its artifact planted into the first image."""
    abar, power, mean = case["alphas_cumprod"][index], case["P"], case["mu"]
    state = x.numpy().astype(np.float64)
    spectrum = np.fft.fft2(state - np.sqrt(abar) * mean) * np.sqrt(abar) * power / (abar * power + 1 - abar)
    x0 = mean + np.fft.ifft2(spectrum).real
    start = int(case["start"])
    if index <= start:
        x0[0] += case["blob0"] * min(1, (start - index + 1) / 2)
    return torch.from_numpy(x0.clip(-1, 1).astype(np.float32))


def test_the_whole_loop_is_followed_step_by_step(oracle):
    case = oracle("e1_loop_toy_eta0")
    abar = case["alphas_cumprod"]
    levels = [vp_level(float(a)) for a in abar[::-1]] + [NoiseLevel(1.0, 0.0)]
    t_c, first = int(case["classification_t"]), int(case["classification_start"])
    detection = DetectionSettings(
        mode="reference",
        mad_scale=float(case["mad_scale"]),
        min_area=int(case["min_size"]),
        max_area=int(case["max_size"]),
        min_width=int(case["narrow_width"]),
    )
    correction = CorrectionSettings(
        gamma=float(case["noise_ptb_scale"]), expand=int(case["expand_mask"]), x0_source="previous"
    )
    ends = levels[first].sigma, levels[24 - t_c].sigma
    trajectory = trajectory_of(detection, correction, levels=levels, ends=ends)
    window = trajectory.schedule.window
    assert (window.first, window.last, window.decision) == (4, 11, 12)

    x = torch.from_numpy(case["x_T"])
    seen = []
    for step, index in enumerate(range(24, -1, -1)):
        if trajectory.is_due(step):
            decision = trajectory.decide()
            assert decision.acts
            before = [torch.from_numpy(case[f"call{image}_before"]) for image in range(2)]
            for image in range(2):
                assert np.array_equal(trajectory.detections[image].mask, case["masks"][image])
                assert np.array_equal(trajectory.detections[image].mask, case[f"call{image}_mask"])
                torch.testing.assert_close(x[image : image + 1], before[image], atol=5e-6, rtol=0)
            noise = torch.from_numpy(np.stack([case["call0_q"], case["call1_q"]]))
            perturbation = torch.from_numpy(np.stack([case["call0_ptb"], case["call1_ptb"]]))
            x = trajectory.correct(decision, x, None, noise, perturbation)
            for image in range(2):
                after = torch.from_numpy(case[f"call{image}_after"])
                assert (after - before[image]).abs().max() > 0.5  # so the case can fail
                torch.testing.assert_close(x[image : image + 1], after, atol=5e-6, rtol=0)
        denoised = _toy_denoiser(case, x, index)
        trajectory.observe(step, x, denoised)
        if step in window:
            seen.append(((denoised + 1) / 2 * 255).clamp(0, 255).byte().movedim(1, -1).numpy())
        here, then = levels[step], levels[step + 1]
        eps = (x - here.alpha * denoised) / here.sigma
        x = then.alpha * denoised + then.sigma * eps
    frames = np.stack(seen, axis=1)
    assert np.mean(frames != case["frames"]) < 1e-4  # truncation to whole numbers at a float32 border
    torch.testing.assert_close(x, torch.from_numpy(case["final"]), atol=2e-5, rtol=0)
    assert list(np.flatnonzero(decision.corrected)) == list(case["corrected_samples"])


def test_the_default_window_is_decided_within_a_step_of_the_authors(oracle):
    """Their correction happens at index 12 of 25, which is training step 500 of 1000."""
    case, defaults = oracle("schedule"), DetectionSettings()
    sigmas = np.sqrt(1 / case["alphas_cumprod_1000"] - 1)
    start, end = (
        float(np.exp(np.interp((1 - percent) * 999, np.arange(1000), np.log(sigmas))))  # as ComfyUI has it
        for percent in (defaults.start_percent, defaults.end_percent)
    )
    assert np.array_equal(case["alphas_cumprod"], case["alphas_cumprod_1000"][case["timestep_map"]])
    window = find_window([*sigmas[case["timestep_map"]][::-1], 0.0], start, end)
    assert abs(window.decision - 12) <= 1
    assert abs(case["timestep_map"][::-1][window.decision] - 500) <= 42


@pytest.fixture
def packing():
    return runpy.run_path(str(Path(__file__).parent / "authors" / "packing.py"))


def test_results_come_back_as_they_were_packed(packing, planted, tmp_path):
    frames = torch.cat(planted(size=24)).add(0.5).mul(255).byte().movedim(1, -1).numpy()
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    case = {
        "frames": frames,
        "mask": frames[0, ..., 0] > 100,
        "x_t": x,
        "output": np.where(x > 0, x, np.float32(1)),
        "mad_scale": np.array(3.5),
        "purpose": np.array("try"),
    }
    (tmp_path / "results.xz").write_bytes(packing["pack"]({"1_case": case}))
    back = packing["unpack"](tmp_path / "results.xz")["1_case"]
    assert list(back) == list(case)
    for key, value in case.items():
        assert back[key].dtype == value.dtype and np.array_equal(back[key], value), key


def test_results_read_otherwise_than_recorded_are_an_error(packing, tmp_path):
    """As where another NumPy gives other random numbers."""
    packed = packing["pack"]({"1_case": {"x": np.arange(4.0)}})
    wrong = lzma.decompress(packed).replace(b'"crc32": ', b'"crc32": 1')
    (tmp_path / "results.xz").write_bytes(lzma.compress(wrong))
    with pytest.raises(ValueError, match="1_case: x"):
        packing["unpack"](tmp_path / "results.xz")
