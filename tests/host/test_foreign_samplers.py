"""Samplers of other packs: the image is theirs where nothing is found, and the other images where something is."""

from __future__ import annotations

import pytest
import torch

from . import foreign
from .conftest import BLIND
from .models import with_artifact
from .randomness import seed_all, states

SHAPE = (2, 3, 32, 32)

# name -> (sampler function and its options, whether its images can be corrected)
SAMPLERS = {
    "a default Brownian noise of its own": (lambda: (foreign.own_default(), {}), False),
    "noise seeded once": (lambda: (foreign.seeded_once(), {}), True),
    "noise seeded once, reported late": (lambda: (foreign.seeded_once(report="late"), {}), True),
    "noise seeded at each step": (lambda: (foreign.seeded_each_step, {}), False),
    "noise of numpy": (lambda: (foreign.of_numpy, {}), False),
    "global noise of torch": (lambda: (foreign.of_globals("torch"), {}), True),
    "global noise in place": (lambda: (foreign.of_globals("in place"), {}), True),
    "global noise of numpy": (lambda: (foreign.of_globals("numpy"), {}), True),
    "a wrapper of euler_ancestral": (lambda: (foreign.passing_on("euler_ancestral"), {}), True),
    "a wrapper of dpmpp_2m_sde": (lambda: (foreign.passing_on("dpmpp_2m_sde"), {}), False),
    "a wrapper of dpmpp_2m": (lambda: (foreign.passing_on("dpmpp_2m"), {}), True),
    "a wrapper of heun": (lambda: (foreign.passing_on("heun"), {}), True),
    "a wrapper of euler_ancestral_cfg_pp": (lambda: (foreign.passing_on("euler_ancestral_cfg_pp"), {}), True),
    "an object that counts": (lambda: (foreign.Counting(), {}), True),
    "a given function": (lambda: (_ks("euler_ancestral"), {"noise_sampler": _given("function")}), True),
    "a given list": (lambda: (_ks("dpmpp_2s_ancestral"), {"noise_sampler": _given("list")}), True),
    "a given object": (lambda: (_ks("euler_ancestral"), {"noise_sampler": _given("object")}), True),
    "a given function for a foreign sampler": (
        lambda: (foreign.own_default(), {"noise_sampler": _given("function")}), True),
    "a given object for a foreign sampler": (
        lambda: (foreign.own_default(), {"noise_sampler": _given("object")}), True),
    "sigma by keyword": (lambda: (foreign.euler(keyword=True), {}), True),
    "a state changed in place": (lambda: (foreign.euler(in_place=True, report="late"), {}), True),
    "a bare report": (lambda: (foreign.euler(bare=True), {}), True),
    "a late and bare report": (lambda: (foreign.euler(bare=True, report="late"), {}), True),
    "Heun that reports late": (lambda: (foreign.heun_that_reports_late, {}), True),
    "two parts": (lambda: (foreign.chained(2), {}), True),
    "three parts": (lambda: (foreign.chained(3), {}), True),
    "a restart before the decision": (lambda: (foreign.restarting(5, 3), {}), False),
    "a restart after the decision": (lambda: (foreign.restarting(9, 7), {}), False),
    "other levels for the model": (lambda: (foreign.detailed(), {}), True),
    "other levels and noise": (lambda: (foreign.detailed(inner="euler_ancestral"), {}), True),
    "noise before each step": (lambda: (_ks("euler"), {"s_churn": 3.0}), False),
    "noise before each step of Heun": (lambda: (_ks("heun"), {"s_churn": 3.0}), False),
    "one image at a time": (lambda: (foreign.in_halves, {}), False),
    "one image at a time in the end": (lambda: (foreign.in_halves_at_the_end, {}), False),
    "far lower levels": (lambda: (foreign.euler(told=0.5), {}), False),
}  # fmt: skip


def _ks(name):
    import comfy.k_diffusion.sampling as ks

    return getattr(ks, f"sample_{name}")


def _given(kind):
    return foreign.given_source(kind, SHAPE)


@pytest.fixture
def both(hands, core_node, run_node):
    """Samples with a fresh SAMPLER on SamplerCustomAdvanced, and on ASCED's; returns both latents, report, original."""
    import comfy.samplers

    def run(make, model=None, guider=None, steps=16, batch=2, sigmas=None, **options):
        model = model or hands.eps
        if guider is None:
            guider = lambda: core_node(  # noqa: E731
                "CFGGuider", model=model, positive=hands.positive, negative=hands.negative, cfg=2.0)[0]  # fmt: skip
        if sigmas is None:
            sigmas = core_node("BasicScheduler", model=model, scheduler="normal", steps=steps, denoise=1.0)[0]
        latent = {"samples": torch.zeros(batch, *SHAPE[1:])}
        noise = core_node("RandomNoise", noise_seed=3)[0]
        outs, ended = [], []
        for node, more in ((core_node, {}), (run_node, options)):
            function, extra = make()
            sampler = comfy.samplers.KSAMPLER(function, extra_options=extra)
            name = "SamplerCustomAdvanced" if node is core_node else "ASCED_SamplerCustomAdvanced"
            seed_all()
            outs.append(node(name, noise=noise, guider=guider(), sampler=sampler, sigmas=sigmas, latent_image=latent,
                             **more))  # fmt: skip
            ended.append(states())
            assert sampler.sampler_function is function and sampler.extra_options is extra
        assert ended[0] == ended[1], "a random generator ended elsewhere"
        stock, ours = outs
        return stock[0]["samples"], ours[0]["samples"], ours[3], ours[4]["samples"]

    return run


@pytest.mark.parametrize("name", SAMPLERS)
def test_my_custom_sampler_made_another_image_although_nothing_was_found(both, detection, name):
    make, _ = SAMPLERS[name]
    stock, ours, report, _ = both(make, detection=detection(**BLIND))
    assert torch.equal(stock, ours)
    assert not any(image.flagged for image in report.images)


@pytest.mark.parametrize("name", ["a default Brownian noise of its own", "a given function", "an object that counts"])
def test_my_custom_sampler_made_another_image_with_method_none(both, hands, detection, correction, name):
    make, _ = SAMPLERS[name]
    stock, ours, _, _ = both(
        make, with_artifact(hands.eps), detection=detection(), correction=correction(method="none")
    )
    assert torch.equal(stock, ours)


REDONE = [
    "noise seeded once, reported late", "global noise in place", "a wrapper of euler_ancestral_cfg_pp",
    "an object that counts", "a state changed in place", "a late and bare report", "Heun that reports late",
    "three parts", "other levels for the model", "sigma by keyword",
]  # fmt: skip


@pytest.mark.parametrize("name", REDONE)
def test_redo_with_a_custom_sampler(both, hands, detection, correction, name):
    """One that tells the model other levels than its own is corrected by ttc."""
    make, _ = SAMPLERS[name]
    stock, ours, report, original = both(
        make, with_artifact(hands.eps), detection=detection(), correction=correction(method="redo", keep_original=True)
    )
    assert report.images[0].corrected and ours.isfinite().all()
    assert torch.equal(stock[1], ours[1]) and not torch.equal(stock[0], ours[0])
    assert torch.equal(original, stock)
    if name == "other levels for the model":
        assert len(report.notes) == 1 and "ttc instead of redo: the sampler calls the model at other" in report.notes[0]
    else:
        assert not report.notes and report.correction["method"] == "redo"


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_another_image_of_the_batch_changed(both, hands, detection, correction, name, keep):
    make, correctable = SAMPLERS[name]
    stock, ours, report, original = both(
        make, with_artifact(hands.eps), detection=detection(), correction=correction(keep_original=keep)
    )
    assert torch.equal(stock[1], ours[1])
    corrected = report.images[0].corrected
    assert corrected == correctable, report.summary()
    assert torch.equal(stock[0], ours[0]) != corrected
    if keep:
        assert torch.equal(original, stock)
    if corrected:
        assert not report.notes
        assert report.images[0].flagged and ours.isfinite().all()
    else:
        assert report.notes


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("two parts", "euler"), ("three parts", "euler"), ("a late and bare report", "euler"),
        ("sigma by keyword", "euler"), ("Heun that reports late", "heun"), ("a wrapper of heun", "heun"),
        ("a wrapper of dpmpp_2m", "dpmpp_2m"), ("a wrapper of euler_ancestral", "euler_ancestral"),
        ("a wrapper of euler_ancestral_cfg_pp", "euler_ancestral_cfg_pp"),
    ],
)  # fmt: skip
def test_the_same_sampler_in_another_form_was_corrected_otherwise(both, hands, detection, name, own):
    model, looking = with_artifact(hands.eps), {"detection": detection()}
    _, expected, plain, _ = both(lambda: (_ks(own), {}), model, **looking)
    _, ours, report, _ = both(SAMPLERS[name][0], model, **looking)
    assert plain.images[0].corrected and report.corrected_steps == plain.corrected_steps
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_a_cancel_during_the_rehearsal_was_lost(hands, core_node, run_node, detection):
    import comfy.model_management as management
    import comfy.samplers

    inner, calls = foreign.euler(), []

    def cancelled(model, x, sigmas, **kwargs):
        calls.append(len(sigmas))
        if len(calls) == 2:  # the first one is the run itself
            raise management.InterruptProcessingException
        return inner(model, x, sigmas, **kwargs)

    model = with_artifact(hands.eps)
    guider = core_node("CFGGuider", model=model, positive=hands.positive, negative=hands.negative, cfg=2.0)[0]
    with pytest.raises(management.InterruptProcessingException):
        run_node(
            "ASCED_SamplerCustomAdvanced", noise=core_node("RandomNoise", noise_seed=3)[0], guider=guider,
            sampler=comfy.samplers.KSAMPLER(cancelled), latent_image={"samples": torch.zeros(*SHAPE)},
            sigmas=core_node("BasicScheduler", model=model, scheduler="normal", steps=12, denoise=1.0)[0],
            detection=detection(),
        )  # fmt: skip
