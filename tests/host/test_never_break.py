"""Any sampler on any patched model behind any guider: as stock where nothing is found, exact for the other images."""

from __future__ import annotations

import gc
import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from . import foreign, patches
from .conftest import BLIND, examples
from .models import with_artifact
from .randomness import seed_all, states
from .test_foreign_guiders import GUIDERS
from .test_foreign_patches import PATCHES
from .test_foreign_samplers import SAMPLERS

DRAWS = {
    "none": None,
    "torch": lambda x, _: torch.randn_like(x),
    "half the time": lambda x, i: torch.randn_like(x) * (i % 2),
    "numpy": lambda x, _: torch.from_numpy(np.random.standard_normal(tuple(x.shape))).to(x),  # noqa: NPY002
    "python": lambda x, _: torch.full_like(x, random.gauss(0, 1)),
    "two kinds": lambda x, _: torch.randn_like(x) + torch.rand(x.shape),
}
EXAMPLES = examples(40)


@st.composite
def _forms(draw):
    """A sampler: one of those with a name, or one put together."""
    if draw(st.booleans()):
        return draw(st.sampled_from(sorted(SAMPLERS)))
    return {
        "draw": draw(st.sampled_from(sorted(DRAWS))), "report": draw(st.sampled_from(["early", "late"])),
        "keyword": draw(st.booleans()), "in_place": draw(st.booleans()), "bare": draw(st.booleans()),
        "told": draw(st.sampled_from([1.0, 1.0, 0.93, 0.4])), "first": draw(st.sampled_from([0, 0, 3])),
    }  # fmt: skip


def _sampler(form):
    """A fresh SAMPLER."""
    import comfy.samplers

    if isinstance(form, str):
        function, options = SAMPLERS[form][0]()
    else:
        function, options = foreign.euler(**{**form, "draw": DRAWS[form["draw"]]}), {}
    return comfy.samplers.KSAMPLER(function, extra_options=options)


def _seeded(seed=1):
    seed_all(seed)
    patches.COUNT, patches.Counter.calls = 0, 0


def _graph(core_node, hands, form, patch, guide, seen, model, steps=14):
    """What a graph holds: noise, guider, sampler, levels and latent, all of it fresh."""
    import comfy.samplers

    model = with_artifact(getattr(hands, model)) if seen else getattr(hands, model).clone()
    model = PATCHES[patch]()(model) if patch else model
    base = comfy.samplers.CFGGuider
    guider = (GUIDERS[guide](base) if guide else base)(model)
    guider.set_conds(hands.positive, hands.negative)
    guider.set_cfg(2.0)
    return {
        "noise": core_node("RandomNoise", noise_seed=3)[0], "guider": guider, "sampler": _sampler(form),
        "sigmas": core_node("BasicScheduler", model=model, scheduler="normal", steps=steps, denoise=1.0)[0],
        "latent_image": {"samples": torch.zeros(2, 3, 32, 32)},
    }  # fmt: skip


@EXAMPLES
@given(
    form=_forms(), patch=st.sampled_from([None, None, *sorted(PATCHES)]),
    guide=st.sampled_from([None, None, *sorted(GUIDERS)]), seen=st.booleans(), keep=st.booleans(),
    model=st.sampled_from(["eps", "flow"]),
)  # fmt: skip
def test_any_sampler_patch_and_guider(
    hands, core_node, run_node, detection, correction, form, patch, guide, seen, keep, model
):
    def graph():
        return _graph(core_node, hands, form, patch, guide, seen, model)

    given_ = graph()
    _seeded()
    stock = core_node("SamplerCustomAdvanced", **given_)[0]["samples"]
    expected = states()
    given_ = graph()
    looking = detection() if seen else detection(**BLIND)
    _seeded()
    out = run_node(
        "ASCED_SamplerCustomAdvanced", **given_, detection=looking, correction=correction(keep_original=keep)
    )
    ours, report, original = out[0]["samples"], out[3], out[4]["samples"]
    assert states() == expected
    assert not any("ASCED" in thread.name for thread in threading.enumerate())
    same = [torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(stock, ours, strict=True)]
    for image, unchanged in zip(report.images, same, strict=True):
        assert unchanged or image.corrected, report.summary()
    if report.decision is None or (report.images[0].flagged and not report.images[0].corrected):
        assert report.notes
    if keep and any(image.corrected for image in report.images):
        assert torch.equal(original, stock)


def _held(thing, depth=3):
    """What an object holds, by identity."""
    if depth and isinstance(thing, dict):
        return {key: _held(value, depth - 1) for key, value in thing.items()}
    if depth and isinstance(thing, (list, tuple)):
        return [_held(value, depth - 1) for value in thing]
    return id(thing)


FAULTS = ("none", "error", "interrupt", "nan", "broken sampler", "odd levels")


def _fault(kind, call):
    """A patch of the model that goes wrong at one call."""
    import comfy.model_management as management

    calls = [0]

    def post(args):
        calls[0] += 1
        if calls[0] == call and kind == "error":
            raise RuntimeError("broken")
        if calls[0] == call and kind == "interrupt":
            raise management.InterruptProcessingException
        denoised = args["denoised"]
        if calls[0] >= call and kind == "nan":
            denoised = denoised.clone()
            denoised[-1] = float("nan")
        return denoised

    return post


def _broken(model, x, sigmas, extra_args=None, callback=None, disable=None):
    for i in range(4):
        callback({"i": i, "x": x, "denoised": model(x, sigmas[i] * x.new_ones(len(x)), **extra_args)})
    raise ValueError("the sampler gave up")


@pytest.mark.usefixtures("no_recall")
def test_a_hundred_queues_with_mixed_faults_leave_everything_as_it_was(
    hands, core_node, run_node, detection, correction
):
    import comfy.model_management as management
    import comfy.samplers

    generator, names = random.Random(4), sorted(SAMPLERS)
    looking, blind, acting = detection(), detection(**BLIND), correction()
    keeping = correction(keep_original=True)
    outcomes = []

    def queue(number):
        kind, name = FAULTS[number % len(FAULTS)], names[generator.randrange(len(names))]
        graph = _graph(core_node, hands, name, None, None, number % 3 > 0, "eps" if number % 2 else "flow", steps=10)
        model = graph["guider"].model_patcher
        model.set_model_sampler_post_cfg_function(_fault(kind, generator.randrange(1, 12)))
        if kind == "broken sampler":
            graph["sampler"] = comfy.samplers.KSAMPLER(_broken)
        if kind == "odd levels":
            graph["sigmas"] = graph["sigmas"] * 1.05
        objects = {"sampler": vars(graph["sampler"]), "guider": vars(graph["guider"]), "model": vars(model)}
        before, threads = {key: _held(held, 2) for key, held in objects.items()}, threading.active_count()
        _seeded(number)
        try:
            out = run_node(
                "ASCED_SamplerCustomAdvanced", **graph, detection=blind if number % 5 == 0 else looking,
                correction=keeping if number % 4 == 0 else acting,
            )  # fmt: skip
            outcomes.append(out[3].summary())
        except (RuntimeError, ValueError, management.InterruptProcessingException) as error:
            outcomes.append(type(error).__name__)
            assert kind in ("error", "interrupt", "broken sampler")
        after = {key: _held(held, 2) for key, held in objects.items()}
        assert after["sampler"] == before["sampler"] and after["guider"] == before["guider"], number
        assert after["model"]["model_options"] == before["model"]["model_options"]
        assert after["model"]["object_patches"] == before["model"]["object_patches"]
        assert threading.active_count() == threads

    def held():
        gc.collect()
        return sum(o.numel() * o.element_size() for o in gc.get_objects() if type(o) is torch.Tensor)

    for number in range(12):
        queue(number)
    tensors = held()
    for number in range(12, 112):
        queue(number)
    assert held() - tensors < 100_000  # not the latents of even two runs
    assert len({outcome.split(":")[0] for outcome in outcomes}) > 3


def test_two_runs_at_once_with_one_sampler_left_a_dead_run_in_it(hands, core_node, run_node, detection):
    """One SAMPLER, two threads: both images are right, and a later graph without ASCED is stock."""
    import comfy.samplers

    sampler = comfy.samplers.sampler_object("euler")
    function = sampler.sampler_function
    looking, barrier = detection(), threading.Barrier(2, timeout=60)
    under_way, results = threading.Event(), {}

    def graph(wait):
        own = SimpleNamespace(**{**vars(hands), "eps": run_node("ASCED_DemoModel", digit="each in turn")[0]})
        given_ = _graph(core_node, own, "sigma by keyword", None, None, True, "eps")
        calls = [0]

        def meet(args):  # in the middle of both runs
            calls[0] += 1
            if wait:
                under_way.set()
                if calls[0] in (3, 8):
                    barrier.wait()
            return args["denoised"]

        given_["guider"].model_patcher.set_model_sampler_post_cfg_function(meet)
        return {**given_, "sampler": sampler}

    def work(name, inputs):
        with torch.inference_mode():
            results[name] = run_node("ASCED_SamplerCustomAdvanced", **inputs, detection=looking)

    expected = run_node("ASCED_SamplerCustomAdvanced", **graph(False), detection=looking)
    stock = core_node("SamplerCustomAdvanced", **graph(False))[0]["samples"]
    threads = [threading.Thread(target=work, args=(name, graph(True))) for name in "ab"]
    threads[0].start()
    assert under_way.wait(60)  # ComfyUI draws the first noise from torch's global generator: one run after the other
    threads[1].start()
    for thread in threads:
        thread.join()
    for name in "ab":
        assert torch.equal(results[name][0]["samples"], expected[0]["samples"])
        assert results[name][3].images[0].corrected
    assert sampler.sampler_function is function
    assert torch.equal(core_node("SamplerCustomAdvanced", **graph(False))[0]["samples"], stock)


@pytest.mark.parametrize("form", ["slots", "property"])
def test_a_sampler_that_cannot_be_copied_is_not_watched(hands, core_node, run_node, detection, form):
    """What cannot be done safely is not done."""
    import comfy.samplers

    class Slotted(comfy.samplers.Sampler):
        def __init__(self):
            self._inner = comfy.samplers.sampler_object("euler")

        @property
        def sampler_function(self):
            return self._inner.sampler_function

        def sample(self, *args, **kwargs):
            return self._inner.sample(*args, **kwargs)

    class Uncopyable(comfy.samplers.KSAMPLER):
        def __copy__(self):
            raise TypeError("not copied")

    def sampler():
        return Slotted() if form == "property" else Uncopyable(comfy.samplers.sampler_object("euler").sampler_function)

    graph = lambda: {**_graph(core_node, hands, "sigma by keyword", None, None, True, "eps"), "sampler": sampler()}  # noqa: E731
    stock = core_node("SamplerCustomAdvanced", **graph())[0]["samples"]
    out = run_node("ASCED_SamplerCustomAdvanced", **graph(), detection=detection())
    assert torch.equal(out[0]["samples"], stock)
    assert out[3].summary().startswith("Not watched: sampler"), out[3].summary()
