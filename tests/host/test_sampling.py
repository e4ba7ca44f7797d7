"""The promise: if nothing is found, nothing changes; if something is, only that changes."""

from __future__ import annotations

import gc
import threading

import pytest
import torch

from .models import with_artifact

SAMPLERS = ("euler", "ddim", "heun", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "uni_pc")
FORMS = ("eps", "flow")


@pytest.fixture
def artifact(hands, detection):
    """A model with an artifact in image 0, and settings that find it and nothing else."""

    def make(form="eps", images=(0,), **widgets):
        return with_artifact(getattr(hands, form), images), {"detection": detection(**widgets)}

    return make


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_detected_is_bit_identical_to_stock(hands, stock, corrected, form, sampler, detection):
    model = getattr(hands, form)
    blind = {"detection": detection(threshold=20.0, min_area=60000, max_area=65536)}
    latent, mask, report = corrected(model, sampler=sampler, settings=blind)
    assert report.decision is not None and not any(image.flagged for image in report.images)
    assert report.run.extra_model_calls == 0 and not mask.any()
    assert torch.equal(latent, stock(model, sampler=sampler))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_watching_without_correcting_is_bit_identical_to_stock(artifact, stock, corrected, form, sampler, correction):
    model, settings = artifact(form)
    for change in ({"method": "none"}, {"strength": 0.0}):
        latent, mask, report = corrected(
            model, sampler=sampler, settings={**settings, "correction": correction(**change)}
        )
        assert report.images[0].flagged and not report.images[0].corrected and mask[0].any()
        assert torch.equal(latent, stock(model, sampler=sampler))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_flagged_image_is_corrected_and_its_neighbor_left_alone(artifact, stock, corrected, form, sampler):
    model, settings = artifact(form)
    before = stock(model, sampler=sampler)
    after, mask, report = corrected(model, sampler=sampler, settings=settings)
    assert [image.corrected for image in report.images] == [True, False]
    assert report.run.extra_model_calls == 1
    assert torch.isfinite(after).all()
    assert not torch.equal(after[0], before[0])
    assert mask.shape == (2, 32, 32) and mask[0].any() and not mask[1].any()
    assert torch.equal(after[1], before[1])
    assert report.notes == ()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_model_is_called_once_more_for_a_correction(artifact, corrected, sampler, correction):
    model, settings = artifact()
    watched = corrected(model, sampler=sampler, settings={**settings, "correction": correction(method="none")})[2]
    acted = corrected(model, sampler=sampler, settings=settings)[2]
    assert acted.run.model_calls - watched.run.model_calls == 1


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_an_image_does_not_depend_on_its_batch_mates(artifact, corrected, latent, batch):
    """The correction's noise belongs to the image: alone or in a batch, the region gets the same."""
    model, settings = artifact(images=tuple(range(batch)))
    alone = corrected(model, settings=settings, batch=1)[2]
    report = corrected(model, settings=settings, batch=batch)[2]
    assert [image.corrected for image in report.images] == [True] * batch
    assert report.images[0].regions[0].box == alone.images[0].regions[0].box


def test_an_image_sampled_again_alone_got_another_correction(
    hands, run_node, core_node, stock, corrected, settings, monkeypatch
):
    """Its own starting noise counts, whichever node samples it in whichever batch."""
    monkeypatch.setattr(hands, "positive", run_node("ASCED_DemoModel", digit="3")[2])  # the same in every batch
    whole = {"samples": torch.zeros(4, 4, 32, 32)}
    alone = core_node("LatentFromBatch", samples=whole, batch_index=2, length=1)[0]
    rebatched = core_node("RebatchLatents", latents=[whole], batch_size=[2])[0][1]

    def asced(model, latent):
        return corrected(model, latent=latent, settings=settings)[0]

    def patched(model, latent):
        return stock(run_node("ASCED_ApplyToModel", model=model, **settings)[0], latent=latent)

    def custom(model, latent):
        guider = core_node("CFGGuider", model=model, positive=hands.positive, negative=hands.negative, cfg=2.0)[0]
        sigmas = core_node("BasicScheduler", model=model, scheduler="normal", steps=12, denoise=1.0)[0]
        return run_node(
            "ASCED_SamplerCustomAdvanced", noise=core_node("RandomNoise", noise_seed=3)[0], guider=guider,
            sampler=core_node("KSamplerSelect", sampler_name="euler")[0], sigmas=sigmas, latent_image=latent, **settings
        )[0]["samples"]  # fmt: skip

    def artifact(*images):
        return with_artifact(hands.eps, images=images)

    expected = asced(artifact(0, 1, 2, 3), whole)
    assert (expected - stock(artifact(0, 1, 2, 3), latent=whole))[2].abs().max() > 0.1
    for sample in (asced, patched, custom):
        assert torch.equal(sample(artifact(0, 1, 2, 3), whole), expected)
        # the model itself is not exact to the last bit in other batches
        assert (sample(artifact(0), alone)[0] - expected[2]).abs().max() < 1e-4
        assert (sample(artifact(0, 1), rebatched) - expected[2:]).abs().max() < 1e-4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_image_and_other_seeds_between_leave_no_trace(artifact, corrected, sampler):
    model, settings = artifact()
    first = corrected(model, sampler=sampler, settings=settings)[0]
    other = corrected(model, sampler=sampler, settings=settings, seed=11)[0]
    assert not torch.equal(first, other)
    assert torch.equal(corrected(model, sampler=sampler, settings=settings)[0], first)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_global_rng_is_in_the_same_state_as_after_stock(artifact, stock, corrected, sampler):
    model, settings = artifact()
    stock(model, sampler=sampler)
    state = torch.get_rng_state()
    report = corrected(model, sampler=sampler, settings=settings)[2]
    assert report.images[0].corrected
    assert torch.equal(torch.get_rng_state(), state)


def test_patched_then_unpatched_equals_never_patched(hands, artifact, stock, corrected):
    before = stock()
    options = repr(hands.eps.model_options)
    model, settings = artifact()
    corrected(model, settings=settings)
    corrected(settings=settings)
    assert torch.equal(stock(), before)
    assert repr(hands.eps.model_options) == options


def test_nothing_outside_an_inpaint_mask_changes(artifact, stock, corrected, latent):
    model, settings = artifact()
    painted = stock(seed=9)
    mask = torch.zeros(1, 32, 32)
    mask[:, :, :24] = 1
    given = {"samples": painted, "noise_mask": mask}
    before = stock(model, latent=given)
    after, _, report = corrected(model, settings=settings, latent=given)
    assert report.images[0].corrected
    assert torch.equal(after[..., 24:], before[..., 24:])
    assert not torch.equal(after[0], before[0])


@pytest.mark.parametrize("sampler", [*SAMPLERS, "lms", "ipndm", "deis", "dpmpp_3m_sde", "sa_solver", "er_sde"])
@pytest.mark.parametrize("form", FORMS)
def test_a_region_cut_by_the_inpaint_mask_changes_only_inside_it(artifact, stock, corrected, form, sampler):
    model, settings = artifact(form)
    mask = torch.zeros(1, 32, 32)
    mask[..., 10:, :] = 1  # the artifact begins here, and the corrected area crosses the edge
    given = {"samples": stock(seed=9), "noise_mask": mask}
    before = stock(model, latent=given, sampler=sampler)
    after, found, report = corrected(model, settings=settings, latent=given, sampler=sampler)
    assert report.images[0].corrected and found[0, 10].any()
    assert torch.equal(after[..., :10, :], before[..., :10, :])
    assert not torch.equal(after[0], before[0])


@pytest.mark.parametrize("scheduler", ["normal", "karras", "simple", "ddim_uniform", "sgm_uniform", "beta"])
def test_the_window_is_at_the_same_noise_level_on_every_schedule(artifact, corrected, scheduler):
    model, settings = artifact()
    report = corrected(model, settings=settings, scheduler=scheduler, steps=16)[2]
    end = float(model.get_model_object("model_sampling").percent_to_sigma(0.5))
    assert report.sigmas[report.decision] <= end < report.sigmas[report.decision - 1]
    assert report.images[0].corrected


def test_a_sampler_of_another_pack_is_corrected_by_its_signature(hands, artifact, host, run_node):
    """Its noise is its own: what it draws from the global generator stays as it is in the first run."""
    import comfy.sample
    import comfy.samplers

    model, settings = artifact()

    def foreign(model, x, sigmas, extra_args=None, callback=None, disable=None):
        for i in range(len(sigmas) - 1):
            denoised = model(x, sigmas[i] * x.new_ones([len(x)]), **extra_args)
            if callback is not None:
                callback({"x": x, "i": i, "denoised": denoised})
            x = denoised + sigmas[i + 1] * torch.randn_like(x)  # the global generator
        return x

    patched, run = run_node("ASCED_ApplyToModel", model=model, **settings)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 12)
    empty = torch.zeros(2, 3, 32, 32)

    def sample(model):
        noise = comfy.sample.prepare_noise(empty, 3)
        sampler = comfy.samplers.KSAMPLER(foreign)
        out = comfy.sample.sample_custom(
            model, noise, 1.0, sampler, sigmas, hands.positive, hands.negative, empty, disable_pbar=True, seed=3
        )
        return out, torch.get_rng_state()

    (before, rng_before), (after, rng_after) = sample(model), sample(patched)
    report = run_node("ASCED_CollectRun", samples={"samples": after}, run=run)[2]
    assert [image.corrected for image in report.images] == [True, False]
    assert torch.equal(after[1], before[1]) and not torch.equal(after[0], before[0])
    assert torch.equal(rng_before, rng_after)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sampler", ["dpmpp_sde", "dpmpp_3m_sde"])
def test_samplers_with_brownian_noise_share_one_tree(artifact, corrected, sampler, seed):
    """Two runs that drew from the tree at the same time would break it."""
    model, settings = artifact()
    latent, _, report = corrected(model, sampler=sampler, settings=settings, seed=seed)
    assert report.images[0].corrected and latent.isfinite().all()


def test_a_sampler_that_picks_its_own_steps_is_not_watched_and_says_so(artifact, stock, corrected):
    sampler = "dpm_adaptive"
    model, settings = artifact()
    latent, mask, report = corrected(model, sampler=sampler, settings=settings)
    assert "Not watched" in report.summary() and sampler in report.summary()
    assert mask.shape == (2, 32, 32) and not mask.any()
    assert torch.equal(latent, stock(model, sampler=sampler))


@pytest.mark.parametrize(
    ("change", "word"),
    [({"steps": 1}, "1 step "), ({"steps": 3}, "fewer than two steps")],
)
def test_runs_without_steps_in_the_window_pass_through_and_say_so(artifact, stock, corrected, change, word):
    model, settings = artifact()
    latent, mask, report = corrected(model, settings=settings, **change)
    assert report.summary().startswith("Not watched") and word in report.summary()
    assert not mask.any()
    assert torch.equal(latent, stock(model, **change))


@pytest.mark.parametrize("denoise", [0.7, 0.5, 0.3])
def test_img2img_is_watched_from_its_start_and_says_so(hands, corrected, stock, latent, denoise, detection):
    """A run of its own noise levels has a window of its own: hires fix, img2img."""
    settings = {"detection": detection()}
    picture = {"samples": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4)) / 3}
    run = {"steps": 16, "denoise": denoise, "latent": picture}
    model = with_artifact(hands.eps, onset=1 - 0.75 * denoise)  # in the later half of its own window
    after, mask, report = corrected(model, settings=settings, **run)
    assert [image.corrected for image in report.images] == [True, False] and mask[0].any()
    assert "This run starts at" in report.summary() and "watched up to" in report.summary()
    before = stock(model, **run)
    assert torch.equal(after[1], before[1]) and not torch.equal(after[0], before[0])
    middle, end = (float(model.get_model_object("model_sampling").percent_to_sigma(1 - denoise * p)) for p in (1, 0.5))
    assert report.window[0] == 0 and middle > report.decision_sigma > end


def test_uni_pc_too_close_to_its_end_only_observes(artifact, stock, corrected, detection):
    model, _ = artifact()
    late = {"detection": detection(start_percent=0.2, end_percent=0.84)}
    latent, _, report = corrected(model, sampler="uni_pc", settings=late)
    assert report.decision == len(report.sigmas) - 2
    assert any("close to the end" in note for note in report.notes)
    assert torch.equal(latent, stock(model, sampler="uni_pc"))


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), "interrupt"])
@pytest.mark.parametrize("when", [2, 8])
def test_an_error_or_interrupt_in_mid_run_leaves_nothing_behind(hands, artifact, stock, corrected, error, when):
    import comfy.model_management
    import comfy.samplers

    model, settings = artifact()
    before = corrected(model, settings=settings)[0]
    calls = {"n": 0}

    def fail(args):
        calls["n"] += 1
        if calls["n"] > when:
            raise comfy.model_management.InterruptProcessingException if error == "interrupt" else error
        return args["denoised"]

    broken = model.clone()
    broken.set_model_sampler_post_cfg_function(fail)
    with pytest.raises(BaseException) as raised:
        corrected(broken, settings=settings)
    assert not any("ASCED" in thread.name for thread in threading.enumerate())
    assert type(raised.value).__name__ in ("RuntimeError", "InterruptProcessingException")
    raised = None
    assert torch.equal(corrected(model, settings=settings)[0], before)


def test_a_sampler_object_is_restored_after_an_error(hands, artifact, host):
    """ComfyUI caches a SAMPLER and uses it again; our loop must not stay in it."""
    import comfy.sample
    import comfy.samplers

    model, settings = artifact()
    from asced.nodes.sampling.options import DEFAULT_CORRECTION
    from asced.nodes.sampling.patch import patch_model

    def fail(args):
        raise RuntimeError("broken")

    broken = patch_model(model, settings["detection"], DEFAULT_CORRECTION, lambda *_: None)
    broken.set_model_sampler_post_cfg_function(fail)
    sampler = comfy.samplers.sampler_object("euler")
    function = sampler.sampler_function
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 8)
    noise = torch.zeros(1, 3, 32, 32)
    with pytest.raises(RuntimeError, match="broken"):
        comfy.sample.sample_custom(
            broken, noise, 1.0, sampler, sigmas, hands.positive, hands.negative, noise, disable_pbar=True, seed=1
        )
    assert sampler.sampler_function is function


@pytest.mark.usefixtures("no_recall")
def test_no_tensor_outlives_a_run(artifact, corrected):
    model, settings = artifact()
    corrected(model, settings=settings)

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(o, torch.Tensor) for o in gc.get_objects())

    before = tensors()
    for seed in range(4):
        corrected(model, settings=settings, seed=seed)
    assert tensors() == before


def test_progress_counts_every_step_once(artifact, host, corrected, monkeypatch):
    """ComfyUI's own progress bar must count 1…n, even across a restart."""
    import latent_preview

    seen = []
    original = latent_preview.prepare_callback

    def recording(model, steps, *args):
        callback = original(model, steps, *args)

        def step(i, *rest):
            seen.append(i)
            return callback(i, *rest)

        return step

    monkeypatch.setattr(latent_preview, "prepare_callback", recording)
    model, settings = artifact()
    assert corrected(model, settings=settings)[2].run.extra_model_calls == 1
    assert seen == list(range(12))
