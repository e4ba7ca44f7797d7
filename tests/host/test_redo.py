"""Method redo in a real ComfyUI: the marked regions are sampled again from the first watched step on."""

from __future__ import annotations

import threading

import pytest
import torch

from . import patches
from .conftest import BLIND, STRICT
from .models import as_flow, with_artifact
from .randomness import seed_all, states

SAMPLERS = ["euler", "dpmpp_2m", "euler_ancestral", "heun", "uni_pc"]
FELL_BACK = "Corrected by ttc instead of redo: "


@pytest.fixture
def redone(hands, corrected, detection, correction):
    """ASCED_KSampler with method redo on the planted artifact; latent, mask and report."""

    def sample(model=None, looking=(), acting=(), **more):
        settings = {
            "detection": detection(**dict(looking)),
            "correction": correction(**{"method": "redo", **dict(acting)}),
        }
        return corrected(model or with_artifact(hands.eps), settings=settings, **more)

    return sample


def _watched_steps(report):
    first, last = report.window
    return last - first + 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_found_is_bit_identical_to_stock_and_costs_nothing(hands, stock, redone, sampler):
    model = with_artifact(hands.eps)
    latent, _, report = redone(model, BLIND, sampler=sampler)
    assert torch.equal(latent, stock(model, sampler=sampler))
    assert report.run.extra_model_calls == 0 and report.correction["method"] == "redo"


@pytest.mark.parametrize("sampler", [*SAMPLERS, "euler_cfg_pp", "dpmpp_sde", "res_multistep_ancestral_cfg_pp"])
def test_only_the_marked_image_changes_and_each_watched_step_costs_a_call(hands, stock, redone, sampler):
    model = with_artifact(hands.eps)
    seed_all(5)
    before, ended = stock(model, sampler=sampler), states()
    seed_all(5)
    latent, _, report = redone(model, sampler=sampler)
    assert states() == ended, "a random generator ended elsewhere"
    assert [image.corrected for image in report.images] == [True, False], report.summary()
    assert torch.equal(latent[1], before[1]) and latent.isfinite().all()
    ttc = redone(model, acting={"method": "ttc"}, sampler=sampler)[2]
    assert report.run.extra_model_calls == _watched_steps(report) + ttc.run.extra_model_calls
    assert ttc.run.extra_model_calls == 1 and not report.notes
    assert report.to_dict()["run"]["extra_model_calls"] == report.run.extra_model_calls


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_the_model_is_called_with_the_levels_of_the_watched_steps_and_the_states_of_the_run(hands, redone, sampler):
    """Outside of the marked places, each added call has the state that the model got at that step before."""
    asked = []

    def wrap(run, args):
        asked.append((float(args["timestep"].flatten()[0]), args["input"].clone()))
        return run(args["input"])

    report = redone(patches.wrapping(wrap)(with_artifact(hands.eps)), sampler=sampler)[2]
    first, last = report.window
    added = asked[report.decision + 1 : report.decision + 1 + _watched_steps(report)]
    grown = torch.nn.functional.max_pool2d(torch.from_numpy(report.masks).float(), 5, 1, 2).bool()
    outside = ~grown[:, None].expand(2, 3, -1, -1).repeat(2, 1, 1, 1)  # positive and negative
    for (told, x), (level, state) in zip(added, asked[first : last + 1], strict=True):
        assert told == level
        assert torch.equal(x[outside], state[outside])
        assert not torch.equal(x, state)


def test_it_is_another_correction_than_ttc(redone):
    redo, ttc = (redone(acting={"method": method})[0] for method in ("redo", "ttc"))
    assert (redo[0] - ttc[0]).abs().max() > 0.01
    assert torch.equal(redo[1], ttc[1])
    assert torch.equal(redo, redone()[0])  # the same in each run


def test_a_flow_model(hands, stock, redone):
    model = with_artifact(as_flow(hands.eps))
    latent, _, report = redone(model)
    assert [image.corrected for image in report.images] == [True, False] and not report.notes
    assert torch.equal(latent[1], stock(model)[1])
    assert report.run.extra_model_calls == _watched_steps(report) + 1


def test_a_video(host, run_node, correction, tmp_path):
    """Wan 2.1 through ComfyUI's own loader, random weights; the square is in the second video."""
    from .families import FAMILIES, load_family

    name = "Wan 2.1 video, flow"
    model = with_artifact(load_family(name, tmp_path), images=(1,), strength=12.0)
    given = {"samples": torch.zeros(2, 16, 3, 16, 16)}
    common = (5, 12, 2.0, "euler", "simple", FAMILIES[name].conditioning(), FAMILIES[name].conditioning(1), given)
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image")
    out, _, report, _ = run_node(
        "ASCED_KSampler", model=model, denoise=1.0, detection=run_node("ASCED_Detection", **STRICT)[0],
        correction=correction(method="redo"), **dict(zip(names, common, strict=True)),
    )  # fmt: skip
    stock = host.common_ksampler(model, *common)[0]["samples"]
    assert [image.corrected for image in report.images] == [False] * 3 + [True] * 3 and not report.notes
    assert torch.equal(out["samples"][0], stock[0]) and not torch.equal(out["samples"][1], stock[1])
    assert report.run.extra_model_calls == _watched_steps(report) + 1


@pytest.mark.parametrize("name", ["skips calls", "smooths over the steps", "counts"])
def test_my_cache_answered_an_early_step_from_a_later_one(hands, stock, redone, name):
    """Such patches are corrected by ttc, and the note says so."""
    patched = {
        "skips calls": lambda: patches.wrapping(patches.Skipping()),
        "smooths over the steps": patches.smoothing,
        "counts": lambda: patches.counting("attribute"),
    }[name]
    before = stock(patched()(with_artifact(hands.eps)), steps=16)
    latent, _, report = redone(patched()(with_artifact(hands.eps)), steps=16)
    ttc, _, plain = redone(patched()(with_artifact(hands.eps)), acting={"method": "ttc"}, steps=16)
    assert report.images[0].corrected
    assert torch.equal(latent, ttc) and torch.equal(latent[1], before[1])
    assert sum(note.startswith(FELL_BACK) for note in report.notes) == 1
    assert f"{FELL_BACK}a patch on this model remembers earlier calls" in report.summary()
    assert report.run.extra_model_calls == plain.run.extra_model_calls
    assert report.correction["method"] == "ttc"


def test_a_patch_that_draws_noise_for_each_call(hands, stock, redone):
    model = patches.drawing("torch")(with_artifact(hands.eps))
    latent, _, report = redone(model)
    assert report.images[0].corrected and not report.notes
    assert torch.equal(latent[1], stock(model)[1])


def test_a_patch_that_keeps_a_log_sees_every_call(hands, stock, redone):
    log = []

    def wrap(run, args):
        log.append(len(args["input"]))
        return run(args["input"])

    model = patches.wrapping(wrap)(with_artifact(hands.eps))
    before = stock(model)
    calls, log[:] = len(log), []
    latent, _, report = redone(model)
    assert report.images[0].corrected and not report.notes
    assert torch.equal(latent[1], before[1])
    assert len(log) == calls + _watched_steps(report) + 1


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_inpainting_keeps_what_is_outside_of_the_area(hands, latent, stock, redone, sampler):
    given = latent(2)
    given["samples"] = torch.full((2, 3, 32, 32), 0.2)
    given["noise_mask"] = torch.zeros(2, 32, 32)
    given["noise_mask"][:, 4:28, 2:14] = 1  # cuts the artifact
    model = with_artifact(hands.eps)
    out, _, report = redone(model, latent=given, sampler=sampler, looking={"min_area": 400, "min_width": 16})
    before = stock(model, latent=given, sampler=sampler)
    assert report.images[0].corrected
    kept = (given["noise_mask"] == 0)[:, None].expand(2, 3, 32, 32)
    assert torch.equal(out[kept], before[kept])
    assert not torch.equal(out[0], before[0])
    for image in range(2):
        assert report.images[image].corrected or torch.equal(out[image], before[image])


@pytest.mark.parametrize("sampler", ["euler", "uni_pc"])
@pytest.mark.parametrize("kind", ["interrupt", "error"])
def test_cancel_while_it_is_redone_leaves_the_model_clean(hands, stock, redone, sampler, kind):
    import comfy.model_management as management

    model = with_artifact(hands.eps)
    expected, _, report = redone(model, sampler=sampler)
    seed_all(5)
    plain, before = stock(model, sampler=sampler), states()
    calls = [0]

    def stop(run, args):
        calls[0] += 1
        if calls[0] == report.decision + 4:
            if kind == "error":
                raise RuntimeError("broken")
            management.interrupt_current_processing()
            management.throw_exception_if_processing_interrupted()
        return run(args["input"])

    error = RuntimeError if kind == "error" else management.InterruptProcessingException
    seed_all(5)
    with pytest.raises(error):
        redone(patches.wrapping(stop)(model), sampler=sampler)
    assert states() == before  # neither of these samplers draws
    assert not any("ASCED" in thread.name for thread in threading.enumerate())
    assert calls[0] == report.decision + 4
    assert torch.equal(redone(model, sampler=sampler)[0], expected)
    assert torch.equal(stock(model, sampler=sampler), plain)


@pytest.mark.parametrize("sampler", ["euler", "euler_cfg_pp", "dpmpp_2m"])
def test_the_original_is_kept_bit_for_bit(hands, latent, stock, run_node, detection, correction, sampler):
    """Also with samplers whose own hook reads the guidance: it must not see the added calls."""
    model = with_artifact(hands.eps)
    results = [
        run_node(
            "ASCED_KSampler", model=model, seed=3, steps=12, cfg=2.0, sampler_name=sampler, scheduler="normal",
            positive=hands.positive, negative=hands.negative, latent_image=latent(2), denoise=1.0,
            detection=detection(), correction=correction(method="redo", keep_original=keep),
        )
        for keep in (True, False)
    ]  # fmt: skip
    kept, plain = results
    assert torch.equal(kept[3]["samples"], stock(model, sampler=sampler))
    assert torch.equal(kept[0]["samples"], plain[0]["samples"])
    assert not torch.equal(kept[0]["samples"][0], kept[3]["samples"][0])


def test_a_perturbation_in_pixels_with_a_latent_model(sample, demo, loud):
    looking, pixels = {"min_width": 8, "min_area": 300}, {"perturb_in": "pixel", "gamma": 0.5, "vae": demo.vae}
    stock = sample(loud, None)["samples"]
    plain, changed = (sample(loud, looking, {"method": "redo", **more}) for more in ({}, pixels))
    for latent, _, report in (plain, changed):
        assert [image.corrected for image in report.images] == [True, False] and not report.notes
        assert torch.equal(latent["samples"][1], stock[1])
    assert not torch.equal(plain[0]["samples"][0], changed[0]["samples"][0])


def test_apply_to_model_gives_the_same_as_the_sampler(hands, stock, redone, run_node, detection, correction):
    settings = {"detection": detection(), "correction": correction(method="redo")}
    patched, run = run_node("ASCED_ApplyToModel", model=with_artifact(hands.eps), **settings)
    latent = stock(patched)
    report = run_node("ASCED_CollectRun", samples={"samples": latent}, run=run)[2]
    expected, _, plain = redone()
    assert torch.equal(latent, expected)
    assert report.run.extra_model_calls == plain.run.extra_model_calls == _watched_steps(report) + 1


def test_a_custom_sampler_with_a_guider(core_node, hands, latent, run_node, detection, correction):
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
    settings = {"detection": detection(), "correction": correction(method="redo")}
    output, denoised, _, report, *_ = run_node("ASCED_SamplerCustomAdvanced", **inputs, **settings)
    assert [image.corrected for image in report.images] == [True, False]
    assert torch.equal(output["samples"][1], stock["samples"][1])
    assert not torch.equal(output["samples"][0], stock["samples"][0])
    torch.testing.assert_close(output["samples"], denoised["samples"], rtol=1e-3, atol=1e-3)
    assert report.run.extra_model_calls == _watched_steps(report) + 1


def test_a_run_that_the_model_answers_from_a_cache_is_not_called_corrected(hands, stock, redone):
    model = patches.caching_by_level()(with_artifact(hands.eps))
    before = stock(model, sampler="heun", steps=16)
    model = patches.caching_by_level()(with_artifact(hands.eps))
    latent, _, report = redone(model, sampler="heun", steps=16)
    assert torch.equal(latent, before)
    assert "answers from a cache" in report.summary() and FELL_BACK not in report.summary()


def test_the_previous_prediction_does_not_go_with_redo(run_node):
    with pytest.raises(ValueError, match="x0_source to current"):
        run_node("ASCED_Correction", method="redo", x0_source="previous")
