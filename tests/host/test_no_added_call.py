"""x0_source previous: the state is corrected before the model sees it at T_c, so the model is called as in stock."""

from __future__ import annotations

import threading

import pytest
import torch

from . import patches
from .conftest import BLIND
from .models import as_flow, with_artifact
from .randomness import seed_all, states

# one call for each reported step, and the next one is that of the next step
SINGLE = [
    "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde",
    "dpmpp_3m_sde", "lms", "ipndm", "ipndm_v", "deis", "ddpm", "lcm", "res_multistep", "res_multistep_cfg_pp",
    "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp", "gradient_estimation", "er_sde", "sa_solver", "ddim",
    "uni_pc", "uni_pc_bh2",
]  # fmt: skip
DOUBLE = ["heun", "heunpp2", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "seeds_2", "sa_solver_pece"]


@pytest.fixture
def ahead(hands, corrected, detection, correction):
    """ASCED_KSampler with x0_source previous on the planted artifact; latent, mask and report."""

    def sample(model=None, looking=(), acting=(), **more):
        settings = {
            "detection": detection(**dict(looking)),
            "correction": correction(**{"x0_source": "previous", **dict(acting)}),
        }
        return corrected(model or with_artifact(hands.eps), settings=settings, **more)

    return sample


@pytest.fixture
def afterwards(ahead, monkeypatch):
    """The same, but decided and corrected at T_c, with an added call."""
    from asced.asced_core import Trajectory

    def sample(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(Trajectory, "is_due_early", lambda *_: False)
            return ahead(*args, **options)

    return sample


@pytest.mark.parametrize("sampler", SINGLE)
def test_the_model_is_called_as_often_as_in_stock(hands, stock, ahead, afterwards, sampler):
    """And the image is that of a correction after the call of T_c, bit for bit."""
    model = with_artifact(hands.eps)
    seed_all(5)
    before, ended = stock(model, sampler=sampler), states()
    seed_all(5)
    latent, _, report = ahead(model, sampler=sampler)
    assert states() == ended, "a random generator ended elsewhere"
    assert [image.corrected for image in report.images] == [True, False], report.summary()
    assert torch.equal(latent[1], before[1]) and not torch.equal(latent[0], before[0])
    assert report.run.extra_model_calls == 0 and not report.notes
    late, _, other = afterwards(model, sampler=sampler)
    assert other.run.extra_model_calls == 1 and report.run.model_calls == other.run.model_calls - 1
    assert torch.equal(latent, late)
    assert report.corrected_steps == other.corrected_steps


@pytest.mark.parametrize("sampler", DOUBLE)
def test_a_sampler_with_calls_between_its_steps_adds_one(hands, stock, ahead, sampler):
    model = with_artifact(hands.eps)
    before = stock(model, sampler=sampler)
    latent, _, report = ahead(model, sampler=sampler)
    assert [image.corrected for image in report.images] == [True, False], report.summary()
    assert torch.equal(latent[1], before[1]) and not torch.equal(latent[0], before[0])
    assert report.run.extra_model_calls > 0


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral", "heun", "uni_pc"])
def test_nothing_found_is_bit_identical_to_stock(hands, stock, ahead, sampler):
    model = with_artifact(hands.eps)
    latent, _, report = ahead(model, BLIND, sampler=sampler)
    assert torch.equal(latent, stock(model, sampler=sampler))
    assert report.run.extra_model_calls == 0 and not any(image.corrected for image in report.images)


def test_a_flow_model(hands, stock, ahead):
    model = with_artifact(as_flow(hands.eps))
    latent, _, report = ahead(model)
    assert [image.corrected for image in report.images] == [True, False] and report.run.extra_model_calls == 0
    assert torch.equal(latent[1], stock(model)[1])


@pytest.mark.parametrize("name", ["skips calls", "smooths over the steps", "counts"])
def test_a_patch_with_a_memory_gets_its_added_call(hands, stock, ahead, afterwards, name):
    """What remembers earlier calls could answer the corrected state with them: only a second call can tell."""
    patched = {
        "skips calls": lambda: patches.wrapping(patches.Skipping()),
        "smooths over the steps": patches.smoothing,
        "counts": lambda: patches.counting("attribute"),
    }[name]
    before = stock(patched()(with_artifact(hands.eps)), steps=16)
    latent, _, report = ahead(patched()(with_artifact(hands.eps)), steps=16)
    late, _, other = afterwards(patched()(with_artifact(hands.eps)), steps=16)
    assert report.images[0].corrected and report.run.extra_model_calls == other.run.extra_model_calls > 0
    assert torch.equal(latent, late) and torch.equal(latent[1], before[1]) and report.notes == other.notes


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_inpainting_keeps_what_is_outside_of_the_area(hands, latent, stock, ahead, sampler):
    given = latent(2)
    given["samples"] = torch.full((2, 3, 32, 32), 0.2)
    given["noise_mask"] = torch.zeros(2, 32, 32)
    given["noise_mask"][:, 4:28, 2:14] = 1  # cuts the artifact
    model = with_artifact(hands.eps)
    out, _, report = ahead(model, latent=given, sampler=sampler, looking={"min_area": 400, "min_width": 16})
    before = stock(model, latent=given, sampler=sampler)
    assert report.images[0].corrected and report.run.extra_model_calls == 0
    kept = (given["noise_mask"] == 0)[:, None].expand(2, 3, 32, 32)
    assert torch.equal(out[kept], before[kept]) and not torch.equal(out[0], before[0])


@pytest.mark.parametrize("sampler", ["euler", "euler_cfg_pp", "dpmpp_2m"])
def test_the_original_is_kept_bit_for_bit(hands, latent, stock, run_node, detection, correction, sampler):
    model = with_artifact(hands.eps)
    out = run_node(
        "ASCED_KSampler", model=model, seed=3, steps=12, cfg=2.0, sampler_name=sampler, scheduler="normal",
        positive=hands.positive, negative=hands.negative, latent_image=latent(2), denoise=1.0,
        detection=detection(), correction=correction(x0_source="previous", keep_original=True),
    )  # fmt: skip
    assert torch.equal(out[3]["samples"], stock(model, sampler=sampler))
    assert not torch.equal(out[0]["samples"][0], out[3]["samples"][0])


@pytest.mark.parametrize("at", [0, 1, 2])
def test_cancel_around_the_correction_leaves_nothing_behind(hands, stock, ahead, at):
    """Before the corrected run, in its first call, and after it."""
    import comfy.model_management

    model = with_artifact(hands.eps)
    expected = stock(model)
    decision = ahead(model)[2].decision
    seen = [0]

    def wrap(run, args):
        seen[0] += 1
        if seen[0] == decision + at:
            raise comfy.model_management.InterruptProcessingException
        return run(args["input"])

    before = threading.active_count()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        ahead(patches.wrapping(wrap)(model))
    assert threading.active_count() == before
    assert torch.equal(stock(model), expected)
