"""What `watching` leaves behind, says and refuses."""

from __future__ import annotations

import copy
import gc
import inspect
import re
import weakref

import diffusers
import numpy as np
import pytest
import torch

from asced_core import CorrectionSettings, DetectionSettings
from asced_core.draw.overlay import draw_overlay
from asced_core.hosts.diffusers import watching
from asced_core.hosts.diffusers.sampling import Sampling

from .families import BATCH, FAMILIES, Family, ddim, flux, noise, pooled, prompts, sd3, stable_diffusion, unet
from .planted import Denoises
from .rows import FINDS, NOTHING, sampled

SIZE = {"height": 128, "width": 128}
SD3, PIXART = FAMILIES["Stable Diffusion 3"], FAMILIES["PixArt-α"]
PREVIOUS = CorrectionSettings(x0_source="previous")


def run(pipe, family=SD3, detection=FINDS, correction=None, artifact=1, seed=0, **more):
    """The result and the report of a watched call."""
    with (
        Denoises(pipe, SIZE, artifact, family.sign, family.twice),
        watching(pipe, detection, correction, seed) as watch,
    ):
        out = sampled(pipe, family, **more)
    return out, watch.report()


def stock(pipe, family=SD3, artifact=1, **more):
    with Denoises(pipe, SIZE, artifact, family.sign, family.twice):
        return sampled(pipe, family, **more)


def as_it_was(pipe):
    """Nothing stands in front of a method, and no hook listens."""
    doors = [name for owner in (pipe, pipe.scheduler) for name, value in vars(owner).items() if callable(value)]
    doors = [name for name in doors if name in ("step", "set_timesteps", "prepare_latents")]
    modules = [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]
    return not doors and not any(module._forward_hooks for module in modules)


def test_the_pipeline_is_as_it_was_after_the_block():
    pipe = sd3()
    _, report = run(pipe)
    assert report.images[1].corrected and as_it_was(pipe)


@pytest.mark.parametrize("at", [3, 8, 10])
def test_the_pipeline_is_as_it_was_after_an_error_at_any_step(at):
    pipe = sd3()

    def fail(_pipe, step, _t, given):
        if step == at:
            raise KeyboardInterrupt
        return given

    with pytest.raises(KeyboardInterrupt), Denoises(pipe, SIZE, 1), watching(pipe, FINDS):
        sampled(pipe, SD3, callback_on_step_end=fail)
    assert as_it_was(pipe)
    assert torch.equal(stock(pipe), stock(sd3()))


def test_nothing_of_a_run_is_kept():
    pipe, seen = sd3(), []
    begin = Sampling._begin

    def spy(self, x, *rest):
        seen.extend([weakref.ref(self), weakref.ref(x)])
        begin(self, x, *rest)

    Sampling._begin = spy
    try:
        with Denoises(pipe, SIZE, 1), watching(pipe, FINDS) as watch:
            sampled(pipe, SD3)
    finally:
        Sampling._begin = begin
    gc.collect()
    assert seen and [ref() for ref in seen] == [None, None]
    assert watch.report().images[1].flagged


def test_a_pipeline_sees_the_scheduler_that_it_knows():
    pipe = sd3()
    plain = inspect.signature(pipe.scheduler.set_timesteps), inspect.signature(pipe.scheduler.step)
    with watching(pipe):
        assert (inspect.signature(pipe.scheduler.set_timesteps), inspect.signature(pipe.scheduler.step)) == plain
        assert type(pipe.scheduler) is diffusers.FlowMatchEulerDiscreteScheduler


def test_a_copy_of_the_scheduler_is_a_scheduler_of_its_own():
    """LTX 2 steps its sound on a deep copy, between the steps of the video."""
    pipe = sd3()
    with watching(pipe):
        other = copy.deepcopy(pipe.scheduler)
        other.set_timesteps(4)
        pipe.scheduler.set_timesteps(8)
        x = torch.ones(1, 4, 8, 8)
        other.step(x, other.timesteps[0], x)
        assert (other.step_index, pipe.scheduler.step_index) == (1, None)
        assert len(other.timesteps) == 4


def test_the_patch_of_another_tool_stays():
    pipe, calls = sd3(), []
    own = pipe.scheduler.step

    def patched(*args, **kwargs):
        calls.append(1)
        return own(*args, **kwargs)

    pipe.scheduler.step = patched
    run(pipe)
    assert len(calls) == 20 and pipe.scheduler.step is patched


def test_a_patch_that_comes_during_the_block_stays():
    pipe = sd3()
    with watching(pipe):
        inner = pipe.scheduler.step
        patched = lambda *args, **kwargs: inner(*args, **kwargs)  # noqa: E731
        pipe.scheduler.step = patched
    assert pipe.scheduler.step is patched
    plain = sd3()
    assert torch.equal(stock(pipe), stock(plain))


def test_each_call_has_a_report():
    pipe = sd3()
    with Denoises(pipe, SIZE, 1), watching(pipe, FINDS, seed=3) as watch:
        first = sampled(pipe, SD3)
        assert watch.report().images[1].corrected
        second = sampled(pipe, SD3, num_inference_steps=24)
    assert torch.equal(first, run(sd3(), seed=3)[0]) and not torch.equal(first, second)
    assert [report.steps for report in watch.reports] == [20, 24]
    assert watch.report() is watch.reports[1]


def test_a_look_at_the_report_during_a_run_changes_nothing():
    pipe, said = sd3(), []

    def look(_pipe, _step, _t, given):
        said.append(watch.report().summary())
        return given

    with Denoises(pipe, SIZE, 1), watching(pipe, FINDS) as watch:
        out = sampled(pipe, SD3, callback_on_step_end=look)
    assert torch.equal(out, run(sd3())[0]) and len(watch.reports) == 1
    assert said[0] == "Not watched: the run ended at step 1 of 20, before the decision at step 11." and said[
        -1
    ].startswith("1 region")


def test_masks_and_overlay_have_the_size_of_the_image():
    _, report = run(sd3())
    masks = report.image_masks()
    assert masks.shape == (BATCH, 128, 128) and masks[1].any() and not masks[[0, 2]].any()
    picture = np.zeros((128, 128, 3), np.uint8)
    drawn = draw_overlay(picture, masks[1] > 0, report.images[1].regions, report.labels.shape[1:])
    assert drawn.any()
    assert '"sampler": "FlowMatchEulerDiscreteScheduler"' in report.to_json()


def test_the_seed_decides_the_noise_of_a_correction():
    pipe = sd3()
    first, again, other = (run(pipe, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first[1], other[1])


def test_without_a_correction_nothing_changes():
    out, report = run(sd3(), correction=CorrectionSettings(method="none"))
    assert report.images[1].flagged and not report.images[1].corrected
    assert report.run.extra_model_calls == 0 and torch.equal(out, stock(sd3()))


def test_replace_starts_from_the_first_prediction_of_the_window():
    out, report = run(sd3(), correction=CorrectionSettings(method="replace"))
    assert report.images[1].corrected and torch.equal(out[[0, 2]], stock(sd3())[[0, 2]])


@pytest.mark.parametrize("correction", [None, PREVIOUS], ids=["current", "previous"])
@pytest.mark.parametrize("generator", ["none", "list"])
def test_noise_of_a_scheduler_is_what_it_would_have_been(generator, correction):
    """Both schedulers draw, and the images that are left alone must not notice."""

    def sample(watched):
        pipe = PIXART.make(diffusers.EulerAncestralDiscreteScheduler(beta_schedule="scaled_linear"))
        torch.manual_seed(4)
        each = [torch.Generator().manual_seed(n) for n in range(BATCH)] if generator == "list" else None
        with Denoises(pipe, SIZE, 1, twice=True):
            if not watched:
                return sampled(pipe, PIXART, generator=each), torch.rand(1)
            with watching(pipe, FINDS, correction) as watch:
                out = sampled(pipe, PIXART, generator=each)
            assert watch.report().images[1].corrected
            return out, torch.rand(1)

    (out, after), (plain, plain_after) = sample(True), sample(False)
    assert torch.equal(out[[0, 2]], plain[[0, 2]]) and not torch.equal(out[1], plain[1]) and after == plain_after


def test_half_precision_is_corrected_and_kept():
    pipe = sd3().to(torch.bfloat16)
    half = {key: value.bfloat16() for key, value in pooled().items() if isinstance(value, torch.Tensor)}
    out, report = run(pipe, **half)
    plain = stock(pipe, **half)
    assert report.images[1].corrected and report.run.extra_model_calls == 1
    assert out.dtype == torch.bfloat16 and torch.equal(out[[0, 2]], plain[[0, 2]])


@pytest.mark.parametrize("scale", [1.5, 7.35, 4.125])
def test_any_guidance_scale_is_recognized(scale):
    """Flux keeps its true_cfg_scale to itself: it is read off the outputs."""
    family = FAMILIES["Flux, true CFG"]
    _, report = run(flux(), family, true_cfg_scale=scale)
    assert report.images[1].corrected and report.run.extra_model_calls == 1


def test_guidance_that_is_not_known_is_not_repeated():
    """Skip-layer guidance of Stable Diffusion 3 asks the model three times."""
    more = {"skip_guidance_layers": [0], "skip_layer_guidance_stop": 0.9, "skip_layer_guidance_start": 0.0}
    out, report = run(sd3(), **more)
    assert report.images[1].flagged and not report.images[1].corrected
    assert "Not corrected: its guidance is not one that is known here; set x0_source to previous" in report.summary()
    assert torch.equal(out, stock(sd3(), **more))
    assert run(sd3(), correction=PREVIOUS, **more)[1].images[1].corrected


def test_with_a_controlnet_only_the_previous_prediction_is_used():
    def pipe():
        own = unet()
        torch.manual_seed(1)
        control = diffusers.ControlNetModel.from_unet(own, conditioning_embedding_out_channels=(8, 8, 8, 8))
        made = diffusers.StableDiffusionControlNetPipeline(
            vae=None, text_encoder=None, tokenizer=None, unet=own, controlnet=control.eval(), scheduler=ddim(),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        made.set_progress_bar_config(disable=True)
        return made

    family = Family(pipe, lambda: prompts(image=torch.zeros(BATCH, 3, 128, 128)))
    out, report = run(pipe(), family)
    assert "Not corrected: controlnet takes part in each step" in report.summary()
    assert torch.equal(out, stock(pipe(), family))
    _, report = run(pipe(), family, correction=PREVIOUS)
    assert report.images[1].corrected and report.run.extra_model_calls == 0


def test_a_compiled_model_is_corrected():
    pipe = sd3()
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    out, report = run(pipe)
    assert report.images[1].corrected and as_it_was(pipe)
    assert torch.equal(out[[0, 2]], stock(sd3())[[0, 2]])


def test_a_callback_may_change_the_latents():
    def dimmed(_pipe, step, _t, given):
        return {"latents": given["latents"] * 0.9} if step == 5 else given

    pipe = sd3()
    out, report = run(pipe, detection=NOTHING, artifact=None, callback_on_step_end=dimmed)
    assert torch.equal(out, stock(sd3(), artifact=None, callback_on_step_end=dimmed)) and report.decision is not None


def test_an_interrupted_run_says_where_it_ended():
    def interrupt(pipe, step, _t, given):
        pipe._interrupt = step == 4
        return given

    _, report = run(sd3(), callback_on_step_end=interrupt)
    assert report.summary() == "Not watched: the run ended at step 5 of 20, before the decision at step 11."


def test_outside_of_an_inpaint_mask_nothing_changes():
    family = FAMILIES["Stable Diffusion 1.5, inpaint"]
    pipe = family.make()
    out, report = run(pipe, family)
    changed = (out - stock(pipe, family)).abs().amax(1)[1] > 0
    assert report.images[1].corrected and changed[4:12, 4:12].any()
    assert not changed[0].any() and not changed[:, 0].any() and not changed[-1].any()


def test_tokens_of_an_unknown_size_are_not_watched():
    family = FAMILIES["Flux, modular"]
    pipe = family.make()
    out, report = run(pipe, family)
    assert "Not watched: latents of shape (3, 64, 16) are not recognized as images" in report.summary()
    assert "size=(height, width)" in report.summary() and torch.equal(out, stock(pipe, family))


def test_a_replaced_scheduler_is_noticed():
    pipe = sd3()
    with watching(pipe) as watch:
        pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        sampled(pipe, SD3)
    assert watch.report().summary() == (
        "Not watched: the pipeline's scheduler was replaced inside the block; set it before."
    )


def test_a_pipeline_that_goes_back_after_the_correction_is_left_alone():
    pipe = sd3()
    with Denoises(pipe, SIZE, 1), watching(pipe, FINDS) as watch:
        sampled(pipe, SD3)
        pipe.scheduler._step_index = 4
        x = noise(BATCH, 4, 16, 16)
        back = pipe.scheduler.step(x, pipe.scheduler.timesteps[4], x, return_dict=False)[0]
    plain = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    plain.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20))
    plain.set_timesteps(20)
    plain.set_begin_index(4)
    assert torch.equal(back, plain.step(x, plain.timesteps[4], x, return_dict=False)[0])
    report = watch.report()
    assert report.images[1].corrected and "Not followed to the end: the pipeline does not take" in report.summary()


def test_a_loop_that_jumps_in_its_schedule_is_left_alone():
    pipe, x = sd3(), noise(1, 4, 16, 16)
    with watching(pipe) as watch:
        for first in (0, 4):
            pipe.scheduler._step_index = None
            if first == 0:
                pipe.scheduler.set_timesteps(20)
            pipe.scheduler.set_begin_index(first)
            pipe.scheduler.step(x, pipe.scheduler.timesteps[first], x)
    assert "does not take the steps of its schedule one after another" in watch.report().summary()


def refused(text, pipe, *args):
    with pytest.raises(ValueError, match=re.escape(text)), watching(pipe, *args):
        pass


def test_wrong_inputs_are_refused_in_one_sentence():
    pipe = sd3()
    refused("watching needs a pipeline of diffusers with a scheduler, got UNet2DConditionModel", unet())
    refused("mode to strict or robust", pipe, DetectionSettings(mode="learned"))
    refused("set space to latent", pipe, DetectionSettings(space="rgb"))
    refused("Method redo is not available in diffusers: set method to ttc or replace", pipe, None,
            CorrectionSettings(method="redo"))  # fmt: skip
    refused("Method clip is not available", pipe, None, CorrectionSettings(method="clip"))
    refused("set perturb_in to latent", pipe, None, CorrectionSettings(gamma=0.5, perturb_in="pixel"))
    refused("Pass detection as DetectionSettings", pipe, {"mode": "strict"})
    with watching(pipe):
        refused("This pipeline's scheduler is already watched", pipe)
        refused("already watched", stable_diffusion(pipe.scheduler))
    assert as_it_was(pipe)


def test_a_block_without_a_call_has_no_report():
    with watching(sd3()) as watch:
        pass
    with pytest.raises(ValueError, match="Nothing was sampled in this block"):
        watch.report()
