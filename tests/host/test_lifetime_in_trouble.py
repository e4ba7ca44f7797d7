"""How a run may end, part two: failing calls, low memory, and the cancel button of a real server."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch

from .conftest import COMFYUI
from .models import with_artifact
from .test_server import _graph, _latent, _report, tool


@pytest.fixture(autouse=True)
def _no_thread_left():
    yield
    assert not any("ASCED" in thread.name for thread in threading.enumerate())


def _with_wrapper(model, wrapper):
    """A clone with a wrapper around each evaluation of the network, as other packs add them."""
    from comfy.patcher_extension import WrappersMP

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", wrapper)
    return clone


def _fails_at(call, error):
    calls = [0]

    def wrapper(executor, *args, **kwargs):
        calls[0] += 1
        if calls[0] == call:
            raise error
        return executor(*args, **kwargs)

    return wrapper


def _tensors() -> int:
    gc.collect()
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde"])
def test_an_error_in_any_call_leaves_no_tensor_and_the_next_run_is_unaffected(hands, corrected, settings, sampler):
    model = with_artifact(hands.eps)
    small = {"settings": settings, "sampler": sampler, "side": 16}
    expected, _, report = corrected(model, **small)
    assert report.run.model_calls == 13
    left = []
    for call in range(1, 14):
        with pytest.raises(RuntimeError, match="broken"):
            corrected(_with_wrapper(model, _fails_at(call, RuntimeError("broken"))), **small)
        assert not any("ASCED" in thread.name for thread in threading.enumerate())
        left.append(_tensors())
    assert len(set(left)) == 1
    assert torch.equal(corrected(model, **small)[0], expected)


def test_out_of_memory_that_another_pack_catches_changes_nothing(hands, corrected, settings):
    """The same evaluation is run again: neither a step nor the correction is counted twice."""
    from comfy.model_management import OOM_EXCEPTION

    model = with_artifact(hands.eps)
    expected, _, plain = corrected(model, settings=settings)
    for call in (3, 7, 8, 13):
        fail = _fails_at(call, OOM_EXCEPTION("once"))

        def catching(executor, *args, fail=fail, **kwargs):
            try:
                return fail(executor, *args, **kwargs)
            except OOM_EXCEPTION:
                return executor(*args, **kwargs)

        latent, _, report = corrected(_with_wrapper(model, catching), settings=settings)
        assert torch.equal(latent, expected) and report.run.model_calls == plain.run.model_calls


def test_out_of_memory_as_comfyui_handles_it(hands, corrected, settings):
    """ComfyUI unloads all models after the failed node; the user queues again."""
    import comfy.model_management as management

    model = with_artifact(hands.eps)
    expected = corrected(model, settings=settings)[0]
    with pytest.raises(management.OOM_EXCEPTION):
        corrected(_with_wrapper(model, _fails_at(9, management.OOM_EXCEPTION("full"))), settings=settings)
    management.unload_all_models()
    assert torch.equal(corrected(model, settings=settings)[0], expected)


@pytest.mark.parametrize("below", [1e9, 2.0])
def test_little_memory_splits_the_batch_as_in_stock(hands, stock, corrected, settings, monkeypatch, below):
    """ComfyUI then evaluates positive and negative one after the other, from the start or from mid-run on."""
    import comfy.model_management as management

    sizes, real, now = [], management.get_free_memory, [1e10]

    def count(executor, x, sigma, *args, **kwargs):
        sizes.append(len(x))
        return executor(x, sigma, *args, **kwargs)

    def sigma_of(args):
        now[0] = float(args["sigma"][0])
        return args["denoised"]

    model = _with_wrapper(with_artifact(hands.eps), count)
    model.set_model_sampler_post_cfg_function(sigma_of)

    def free(*args, **kwargs):
        little = (1.0, 1.0) if kwargs.get("torch_free_too") else 1.0
        return little if now[0] < below else real(*args, **kwargs)

    monkeypatch.setattr(management, "get_free_memory", free)
    now[0] = 1e8
    before, expected = stock(model), sizes.copy()
    sizes.clear()
    now[0] = 1e8
    after, _, report = corrected(model, settings=settings)
    assert set(expected) == ({2} if below == 1e9 else {2, 4})
    assert sum(sizes) == sum(expected) + 4  # one more evaluation: two images, positive and negative
    assert [image.corrected for image in report.images] == [True, False]
    assert torch.equal(after[1], before[1]) and not torch.equal(after[0], before[0])


def test_a_lora_on_a_clone_of_a_patched_model_stays_on_that_clone(hands, stock, run_node, settings):
    """Both are sampled in turn; ComfyUI swaps the weights."""
    model = with_artifact(hands.eps)
    patched, run = run_node("ASCED_ApplyToModel", model=model, **settings)
    clone = patched.clone()
    key = "diffusion_model.head.bias"
    assert clone.add_patches({key: ("diff", (torch.full((12,), 0.2),))}, 1.0) == [key]
    plain, lora = stock(patched), stock(clone)
    assert not torch.equal(plain, lora)
    for latent in (plain, lora):
        assert run_node("ASCED_CollectRun", samples={"samples": latent}, run=run)[2].images[0].corrected
    assert torch.equal(stock(patched), plain) and torch.equal(stock(clone), lora)


POOL = "sqlalchemy/pool/base.py"


@pytest.mark.skipif(not COMFYUI, reason="ASCED_COMFYUI is not set; run the tests with `make test`")
def test_the_cancel_button_of_a_real_server_in_mid_run(tmp_path):
    """In the second half of a long run, while the corrected run is active; then the same queue as before."""
    steps, seen = 300, []
    with tool.ComfyServer(tmp_path, options=("--cpu", "--cache-lru", "1")) as server:
        first = server.run(_graph(seed=31))
        assert any(image["corrected"] for image in _report(first)["images"])

        def press(_, value, maximum):
            seen.append(value)
            if value == steps * 2 // 3 and maximum == steps:
                server.post("/interrupt", {})

        with pytest.raises(tool.PromptError, match="interrupted"):
            server.run(_graph(seed=32, steps=steps), press)
        assert steps * 2 // 3 in seen and steps not in seen
        server.run(_graph(seed=33))  # the cache keeps only this result
        again = server.run(_graph(seed=31))
        assert np.array_equal(_latent(server, again), _latent(server, first))
        log = server.log_text().split("To see the GUI go to")[-1]
        # ComfyUI's connection to its own database complains if the garbage collector finds it from another thread;
        # only a traceback that starts in SQLAlchemy's pool is that complaint
        ours = [t for t in log.split("Traceback (most recent call last):")[1:] if POOL not in t.split("\n")[1]]
        assert ours == []
