"""keep_original: the uncorrected run is returned next to the corrected one, bit-for-bit identical to ComfyUI's."""

from __future__ import annotations

import pytest
import torch

from .models import with_artifact

# single-step, multistep, stochastic, two calls per step, with their own post-CFG hooks, with a history
SAMPLERS = [
    "euler", "ddim", "dpmpp_2m", "dpmpp_sde", "euler_ancestral_cfg_pp", "res_multistep_cfg_pp", "heun", "uni_pc",
    "sa_solver_pece", "dpmpp_3m_sde",
]  # fmt: skip


@pytest.fixture
def kept(hands, latent, run_node, detection, correction):
    """ASCED_KSampler with keep_original on or off; returns all four outputs."""

    def sample(model=None, keep=True, sampler="euler", given=None, steps=12, **acting):
        return run_node(
            "ASCED_KSampler", model=model or with_artifact(hands.eps), seed=3, steps=steps, cfg=2.0,
            sampler_name=sampler, scheduler="normal", positive=hands.positive, negative=hands.negative,
            latent_image=given or latent(2), denoise=1.0, detection=detection(),
            correction=correction(keep_original=keep, **acting),
        )  # fmt: skip

    return sample


@pytest.mark.parametrize(
    ("sampler", "masked"), [(s, False) for s in SAMPLERS] + [(s, True) for s in ("euler", "dpmpp_sde", "dpmpp_2m")]
)
def test_the_original_is_stock_and_the_corrected_latent_is_unaffected(hands, latent, stock, kept, sampler, masked):
    given = latent(2)
    if masked:
        given["noise_mask"] = torch.zeros(2, 32, 32)
        given["noise_mask"][:, 4:28, 2:30] = 1
    out, mask, report, original = kept(sampler=sampler, given=given)
    assert report.images[0].corrected and not report.images[1].corrected
    expected = stock(with_artifact(hands.eps), sampler=sampler, latent=given)
    assert torch.equal(original["samples"], expected)
    assert original["samples"].dtype == out["samples"].dtype
    without, _, plain, same = kept(sampler=sampler, given=given, keep=False)
    assert same is without
    assert torch.equal(out["samples"], without["samples"])
    assert not torch.equal(out["samples"][0], original["samples"][0])
    assert torch.equal(mask, torch.from_numpy(plain.image_masks()))
    # reported as it is: one more call for each step after the correction
    doubled = report.run.extra_model_calls - plain.run.extra_model_calls
    assert doubled == report.run.model_calls - plain.run.model_calls > 0


def test_a_flow_model(hands, stock, kept):
    model = with_artifact(hands.flow)
    out, _, report, original = kept(model)
    assert report.images[0].corrected and torch.equal(original["samples"], stock(model))
    assert torch.equal(out["samples"], kept(model, keep=False)[0]["samples"])


def test_nothing_found_gives_the_same_latent_and_costs_nothing(hands, kept):
    out, _, report, original = kept(hands.eps)
    assert not report.images[0].corrected and original is out
    assert report.run.extra_model_calls == 0


@pytest.mark.parametrize("method", ["clip", "sargd"])
def test_methods_that_steer_report_that_there_is_no_original(hands, kept, method):
    out, _, report, original = kept(method=method)
    assert original is out and f"keep_original has no effect with method {method}" in report.summary()


def test_a_patched_model_passes_the_original_to_collect_run(hands, stock, run_node, detection, correction):
    patched, run = run_node(
        "ASCED_ApplyToModel", model=with_artifact(hands.eps), detection=detection(),
        correction=correction(keep_original=True),
    )  # fmt: skip
    sampled = stock(patched)
    latent, _, _, original = run_node("ASCED_CollectRun", samples={"samples": sampled, "batch_index": [0, 1]}, run=run)
    assert latent["samples"] is sampled and original["batch_index"] == [0, 1]
    assert torch.equal(original["samples"], stock(with_artifact(hands.eps)))


def test_a_custom_sampler_returns_the_original_and_its_own_denoised(
    core_node, hands, latent, run_node, detection, correction
):
    import comfy.sample
    import comfy.samplers

    class Noise:
        seed = 3

        def generate_noise(self, given):
            return comfy.sample.prepare_noise(given["samples"], self.seed)

    model = with_artifact(hands.eps)
    (guider,) = core_node("CFGGuider", model=model, positive=hands.positive, negative=hands.negative, cfg=2.0)
    inputs = {
        "noise": Noise(), "guider": guider, "sampler": comfy.samplers.sampler_object("dpmpp_2m"),
        "sigmas": comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 12),
        "latent_image": latent(2),
    }  # fmt: skip
    stock, _ = core_node("SamplerCustomAdvanced", **inputs)
    chosen = {"detection": detection()}
    results = []
    for keep in (True, False):
        options = {**chosen, "correction": correction(keep_original=keep)}
        results.append(run_node("ASCED_SamplerCustomAdvanced", **inputs, **options))
    kept, plain = results
    assert torch.equal(kept[4]["samples"], stock["samples"])
    for ours, theirs in zip(kept[:2], plain[:2], strict=True):  # output and denoised_output: of the corrected run
        assert torch.equal(ours["samples"], theirs["samples"])
