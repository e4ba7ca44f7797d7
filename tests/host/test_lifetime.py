"""Nothing is left of a run when it is over, however it ends, in a server that keeps running."""

from __future__ import annotations

import gc
import resource
import threading

import pytest
import torch

from .models import with_artifact


def _tensor_bytes() -> int:
    gc.collect()
    return sum(o.numel() * o.element_size() for o in gc.get_objects() if type(o) is torch.Tensor)


@pytest.mark.usefixtures("no_recall")
def test_memory_is_flat_over_fifty_queues(hands, corrected, settings):
    model = with_artifact(hands.eps)

    def queue(seed):
        report = corrected(model, settings=settings, seed=seed, steps=8, side=16, batch=1)[2]
        assert report.images[0].corrected

    for seed in range(5):  # caches of torch and ComfyUI fill
        queue(seed)
    tensors, resident = _tensor_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(50):
        queue(seed)
    assert _tensor_bytes() == tensors
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 20_000  # kilobytes, at the peak
    assert not any("ASCED" in thread.name for thread in threading.enumerate())


def test_one_patched_model_serves_samplers_of_other_length_and_size_and_again(hands, stock, run_node, settings):
    """The MODEL is a cached output: ComfyUI passes the same object to every sampler, in every queue."""
    model = with_artifact(hands.eps)
    patched, run = run_node("ASCED_ApplyToModel", model=model, **settings)
    uses = [{"steps": 12, "side": 32}, {"steps": 20, "side": 24, "sampler": "dpmpp_2m"}, {"steps": 10, "side": 40}]
    first = [stock(patched, **use) for use in uses]
    second = [stock(patched, **use) for use in reversed(uses)][::-1]
    for use, a, b in zip(uses, first, second, strict=True):
        report = run_node("ASCED_CollectRun", samples={"samples": b}, run=run)[2]
        assert torch.equal(a, b)
        assert report.steps == use["steps"] and report.masks.shape[-1] == use["side"]
        assert [image.corrected for image in report.images] == [True, False]


def test_a_clone_of_a_patched_model_is_patched_and_bypass_is_stock(hands, stock, run_node, settings):
    model = with_artifact(hands.eps)
    plain = stock(model)
    patched, _ = run_node("ASCED_ApplyToModel", model=model, **settings)
    changed = stock(patched)
    assert not torch.equal(changed, plain)
    assert torch.equal(stock(patched.clone()), changed)
    assert torch.equal(stock(model), plain)  # the node is bypassed: the graph passes its input through


@pytest.mark.parametrize("call", [2, 7, 8, 11])
def test_a_run_repeated_after_out_of_memory_gives_the_same_result(hands, corrected, settings, call):
    """As when a user frees memory and queues again; call 8 is the one that the correction adds."""
    import comfy.model_management

    model = with_artifact(hands.eps)
    expected = corrected(model, settings=settings)[0]
    calls = [0]

    def run_out(args):
        calls[0] += 1
        if calls[0] == call:
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(run_out)
    with pytest.raises(comfy.model_management.OOM_EXCEPTION):
        corrected(model, settings=settings)
    assert not any("ASCED" in thread.name for thread in threading.enumerate())
    again, _, report = corrected(model, settings=settings)
    assert torch.equal(again, expected) and report.run.extra_model_calls == 1


@pytest.mark.parametrize("inside", [True, False])
def test_a_wrapper_that_samples_a_second_time_gets_a_second_run(hands, stock, run_node, settings, inside):
    """A pack that retries with less memory calls the sampler again inside the same run."""
    import comfy.model_management
    from comfy.patcher_extension import WrappersMP

    model = with_artifact(hands.eps)
    expected = stock(run_node("ASCED_ApplyToModel", model=model, **settings)[0])
    calls = [0]

    def run_out(args):
        calls[0] += 1
        if calls[0] == 10:
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return args["denoised"]

    def retry(executor, guider, sigmas, extra_args, callback, noise, *args, **kwargs):
        try:
            return executor(guider, sigmas, extra_args, callback, noise.clone(), *args, **kwargs)
        except comfy.model_management.OOM_EXCEPTION:
            return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)

    model.set_model_sampler_post_cfg_function(run_out)
    if not inside:
        model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "retry", retry)
    patched, run = run_node("ASCED_ApplyToModel", model=model, **settings)
    if inside:
        patched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "retry", retry)
    latent = stock(patched)
    report = run_node("ASCED_CollectRun", samples={"samples": latent}, run=run)[2]
    assert calls[0] > 20
    assert torch.equal(latent, expected)
    assert report.images[0].corrected and report.run.extra_model_calls == 1


def test_a_sampler_object_keeps_its_name_in_a_run_and_is_restored_after_it(hands, settings, run_node):
    """Its function keeps its name while it is watched, because other code reads it."""
    import comfy.sample
    import comfy.samplers

    model = with_artifact(hands.eps)
    patched, _ = run_node("ASCED_ApplyToModel", model=model, **settings)
    sampler = comfy.samplers.sampler_object("dpmpp_2m")
    function = sampler.sampler_function
    names = set()
    patched.set_model_sampler_post_cfg_function(
        lambda args: names.add(sampler.sampler_function.__name__) or args["denoised"]
    )
    noise = torch.zeros(1, 3, 32, 32)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 8)
    comfy.sample.sample_custom(
        patched, noise, 1.0, sampler, sigmas, hands.positive, hands.negative, noise, disable_pbar=True, seed=1
    )
    assert names == {"sample_dpmpp_2m"}
    assert sampler.sampler_function is function
