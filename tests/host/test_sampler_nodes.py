"""The nodes in place of ComfyUI's own: the same result if nothing is found, corrected if something is."""

from __future__ import annotations

import pytest
import torch

from .models import with_artifact

STEPS = 12


@pytest.fixture
def noise_of():
    """A NOISE as from ComfyUI's RandomNoise node."""
    import comfy.sample

    class Noise:
        def __init__(self, seed):
            self.seed = seed

        def generate_noise(self, latent):
            return comfy.sample.prepare_noise(latent["samples"], self.seed, latent.get("batch_index"))

    return Noise


def _advanced(**change):
    return {
        "add_noise": "enable", "noise_seed": 3, "steps": STEPS, "cfg": 2.0, "sampler_name": "euler",
        "scheduler": "normal", "start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable",
        **change,
    }  # fmt: skip


PARTS = [
    ({}, True),
    ({"return_with_leftover_noise": "enable", "end_at_step": 10}, True),
    ({"add_noise": "disable", "start_at_step": 1}, True),
    ({"end_at_step": 3, "return_with_leftover_noise": "enable"}, False),
    ({"add_noise": "disable", "start_at_step": 9}, False),
    ({"start_at_step": 40}, False),
]


@pytest.mark.parametrize(("part", "reaches"), PARTS)
def test_ksampler_advanced_samples_every_part_of_a_run_like_comfyuis_node(
    host, hands, latent, run_node, detection, part, reaches
):
    model = with_artifact(hands.eps)
    given = latent(2)
    if part.get("add_noise") == "disable":
        given = {"samples": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 5}
    inputs = {**_advanced(**part), "positive": hands.positive, "negative": hands.negative, "latent_image": given}
    (stock,) = host.KSamplerAdvanced().sample(model=model, **inputs)
    watch = run_node("ASCED_Correction", method="none", gamma=0.0, strength=1.0, expand=5, x0_source="current")[0]
    seen, mask, report, *_ = run_node(
        "ASCED_KSamplerAdvanced", model=model, detection=detection(), correction=watch, **inputs
    )
    assert torch.equal(seen["samples"], stock["samples"])
    assert mask.shape == (2, 32, 32)
    assert (report.decision is not None) == reaches
    assert reaches or report.summary().startswith("Not watched")
    out, mask, report, *_ = run_node("ASCED_KSamplerAdvanced", model=model, detection=detection(), **inputs)
    assert [image.corrected for image in report.images] == [reaches, False]
    assert torch.equal(out["samples"][1], stock["samples"][1])
    assert torch.equal(out["samples"][0], stock["samples"][0]) != reaches


def test_a_split_run_is_corrected_by_the_part_that_samples_the_middle(host, hands, latent, run_node, detection):
    """First node to step 10 with leftover noise, second node for the rest: the same as one corrected run."""
    model = with_artifact(hands.eps)
    common = {"model": model, "positive": hands.positive, "negative": hands.negative, "detection": detection()}
    whole = run_node("ASCED_KSamplerAdvanced", latent_image=latent(2), **common, **_advanced())[0]["samples"]
    first = _advanced(end_at_step=10, return_with_leftover_noise="enable")
    half, _, report, *_ = run_node("ASCED_KSamplerAdvanced", latent_image=latent(2), **common, **first)
    assert report.images[0].corrected
    rest, _, report, *_ = run_node(
        "ASCED_KSamplerAdvanced", latent_image=half, **common, **_advanced(add_noise="disable", start_at_step=10)
    )
    assert "Not watched" in report.summary()
    torch.testing.assert_close(rest["samples"], whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_sampler_custom_advanced_takes_any_guider_and_leaves_it_unchanged(
    core_node, hands, latent, run_node, detection, noise_of, sampler
):
    import comfy.samplers

    model = with_artifact(hands.eps)
    (guider,) = core_node("CFGGuider", model=model, positive=hands.positive, negative=hands.negative, cfg=2.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", STEPS)
    inputs = {
        "noise": noise_of(3), "guider": guider, "sampler": comfy.samplers.sampler_object(sampler), "sigmas": sigmas,
        "latent_image": latent(2),
    }  # fmt: skip
    before = {key: id(value) for key, value in vars(guider).items()}
    stock, stock_denoised = core_node("SamplerCustomAdvanced", **inputs)
    output, denoised, mask, report, *_ = run_node("ASCED_SamplerCustomAdvanced", detection=detection(), **inputs)
    assert [image.corrected for image in report.images] == [True, False]
    assert mask[0].any() and not mask[1].any()
    for ours, theirs in ((output, stock), (denoised, stock_denoised)):
        assert torch.equal(ours["samples"][1], theirs["samples"][1])
        assert not torch.equal(ours["samples"][0], theirs["samples"][0])
    torch.testing.assert_close(output["samples"], denoised["samples"], rtol=1e-3, atol=1e-3)
    after = {key: id(value) for key, value in vars(guider).items() if key in before}
    assert after == before
    again, _ = core_node("SamplerCustomAdvanced", **inputs)
    assert torch.equal(again["samples"], stock["samples"])


@pytest.mark.parametrize(("steps", "start"), [(0, 0), (STEPS, 9)])
def test_sampler_custom_advanced_without_steps_in_the_window_equals_comfyuis(
    core_node, hands, latent, run_node, noise_of, steps, start
):
    import comfy.samplers

    (guider,) = core_node("CFGGuider", model=hands.eps, positive=hands.positive, negative=hands.negative, cfg=2.0)
    sigmas = comfy.samplers.calculate_sigmas(hands.eps.get_model_object("model_sampling"), "normal", STEPS)
    inputs = {
        "noise": noise_of(3), "guider": guider, "sampler": comfy.samplers.sampler_object("euler"),
        "sigmas": sigmas[start:] if steps else sigmas[:0],
        "latent_image": {"samples": torch.zeros(2, 3, 32, 32)},
    }  # fmt: skip
    stock, _ = core_node("SamplerCustomAdvanced", **inputs)
    output, _, mask, report, *_ = run_node("ASCED_SamplerCustomAdvanced", **inputs)
    assert torch.equal(output["samples"], stock["samples"])
    assert report.summary().startswith("Not watched") and not mask.any() and mask.shape == (2, 32, 32)


def test_a_patched_model_in_an_asced_sampler_is_watched_once(hands, stock, corrected, run_node, detection):
    """Two stacked patches: the last one counts, whichever node made it."""
    model = with_artifact(hands.eps)
    settings = {"detection": detection()}
    expected, _, single = corrected(model, settings=settings)
    patched, run = run_node("ASCED_ApplyToModel", model=model, detection=detection())
    twice, _, report = corrected(patched, settings=settings)
    assert torch.equal(twice, expected)
    assert report.run.model_calls == single.run.model_calls and report.run.extra_model_calls == 1
    with pytest.raises(ValueError, match="did not come from a sampler that used the MODEL of this RUN"):
        run_node("ASCED_CollectRun", samples={"samples": twice}, run=run)
