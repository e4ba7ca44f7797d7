"""Guiders of other packs, and noise levels that are no mix of image and noise: ours does what stock does."""

from __future__ import annotations

import json

import pytest
import torch

from .conftest import BLIND
from .models import with_artifact


def _guider(base, model, hands, **more):
    guider = base(model, **more)
    guider.set_conds(hands.positive, hands.negative)
    guider.set_cfg(2.0)
    return guider


def _own_options(base):
    import comfy.model_patcher as patcher

    class OwnOptions(base):
        def __init__(self, model):
            super().__init__(model)
            options = patcher.create_model_options_clone(model.model_options)
            self.model_options = patcher.set_model_options_post_cfg_function(options, lambda a: a["denoised"] * 0.7)

    return OwnOptions


def _own_predictions(base):
    class OwnPredictions(base):
        def predict_noise(self, *args, **kwargs):
            return super().predict_noise(*args, **kwargs) * 0.8

    return OwnPredictions


def _own_sample(base):
    class OwnSample(base):
        def sample(self, noise, latent_image, *args, **kwargs):
            return super().sample(noise * 1.02, latent_image, *args, **kwargs)

    return OwnSample


def _slotted(base):
    class Slotted(base):
        """Forwards what is set on it."""

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            self.__dict__.setdefault("log", []).append(name)

    return Slotted


def _counting(base):
    class Counting(base):
        calls = 0

        def predict_noise(self, *args, **kwargs):
            self.calls += 1
            return super().predict_noise(*args, **kwargs) * (1.05 if self.calls % 3 == 0 else 1.0)

    return Counting


def _with_momentum(base):
    class WithMomentum(base):
        def __init__(self, model):
            super().__init__(model)
            self.state = {"last": None}

        def predict_noise(self, *args, **kwargs):
            out, last = super().predict_noise(*args, **kwargs), self.state["last"]
            out = out if last is None or last.shape != out.shape else 0.8 * out + 0.2 * last
            self.state["last"] = out
            return out

    return WithMomentum


GUIDERS = {f.__name__: f for f in (_own_options, _own_predictions, _own_sample, _slotted, _counting, _with_momentum)}


class _Standing:
    """Stands in for another guider."""

    def __init__(self, inner):
        self.inner = inner

    def sample(self, *args, **kwargs):
        return self.inner.sample(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.inner, name)


class _Forwarding(_Standing):
    def __init__(self, inner):
        object.__setattr__(self, "inner", inner)

    def __setattr__(self, name, value):
        setattr(self.inner, name, value)


class _WithModel(_Standing):
    """Has a model, and samples with the guider behind it."""

    def __init__(self, inner):
        self.inner, self.model_patcher = inner, inner.model_patcher


@pytest.fixture
def both(hands, core_node, run_node):
    """The samples of SamplerCustomAdvanced and of ASCED's on guiders made alike, and the report."""
    import comfy.samplers

    def run(make, model, sampler="euler", sigmas=None, steps=16, **options):
        if sigmas is None:
            sigmas = core_node("BasicScheduler", model=model, scheduler="normal", steps=steps, denoise=1.0)[0]
        given = {
            "noise": core_node("RandomNoise", noise_seed=3)[0], "sampler": comfy.samplers.sampler_object(sampler),
            "sigmas": sigmas, "latent_image": {"samples": torch.zeros(2, 3, 32, 32)},
        }  # fmt: skip
        stock = core_node("SamplerCustomAdvanced", guider=make(model), **given)[0]["samples"]
        guider = make(model)
        before = dict(vars(guider)), guider.model_patcher, guider.model_options
        out = run_node("ASCED_SamplerCustomAdvanced", guider=guider, **given, **options)
        after = dict(vars(guider)), guider.model_patcher, guider.model_options
        assert {n: id(v) for n, v in before[0].items()} == {n: id(v) for n, v in after[0].items()}
        assert before[1] is after[1] and before[2] is after[2]
        return stock, out[0]["samples"], out[3]

    return run


@pytest.mark.parametrize("name", GUIDERS)
def test_my_guiders_own_function_was_not_called(both, hands, detection, name):
    import comfy.samplers

    guider = GUIDERS[name](comfy.samplers.CFGGuider)
    stock, ours, _ = both(lambda m: _guider(guider, m, hands), hands.eps, detection=detection(**BLIND))
    assert torch.equal(stock, ours)


@pytest.mark.parametrize("name", [n for n in GUIDERS if n != "_slotted"])
def test_a_guider_of_its_own_kind_is_corrected(both, hands, detection, name):
    import comfy.samplers

    guider = GUIDERS[name](comfy.samplers.CFGGuider)
    stock, ours, report = both(lambda m: _guider(guider, m, hands), with_artifact(hands.eps), detection=detection())
    assert report.images[0].corrected and torch.equal(stock[1], ours[1]), report.summary()


@pytest.mark.parametrize("stand", [_Standing, _Forwarding, _WithModel])
def test_a_guider_that_delegates_gets_the_true_reason(both, hands, detection, stand):
    import comfy.samplers

    def make(model):
        return stand(_guider(comfy.samplers.CFGGuider, model, hands))

    stock, ours, report = both(make, with_artifact(hands.eps), detection=detection())
    assert torch.equal(stock, ours)
    assert "with one of its own" in report.summary() and "no step to sample" not in report.summary()


def _flow_sigmas(kind, core_node, model):
    sigmas = core_node("BasicScheduler", model=model, scheduler="normal", steps=12, denoise=1.0)[0]
    if kind == "multiplied":
        return sigmas * 1.05
    if kind == "karras":
        return core_node("KarrasScheduler", steps=12, sigma_max=14.614642, sigma_min=0.0291675, rho=7.0)[0]
    if kind == "exponential":
        return core_node("ExponentialScheduler", steps=12, sigma_max=14.614642, sigma_min=0.0291675)[0]
    if kind == "first":
        sigmas[0] = 1.2
    if kind == "nan":
        sigmas[5] = float("nan")
    if kind == "infinite":
        sigmas[0] = float("inf")
    if kind == "negative":
        sigmas[-1] = -0.1
    return sigmas


@pytest.mark.parametrize("kind", ["multiplied", "karras", "exponential", "first", "nan", "infinite", "negative"])
@pytest.mark.parametrize("form", ["flow", "eps"])
def test_multiplied_sigmas_stopped_my_flux_run(both, hands, core_node, detection, kind, form):
    import comfy.samplers

    model = getattr(hands, form)
    sigmas = _flow_sigmas(kind, core_node, model)
    stock, ours, report = both(
        lambda m: _guider(comfy.samplers.CFGGuider, m, hands), model, sigmas=sigmas, detection=detection(**BLIND)
    )
    assert torch.equal(stock.nan_to_num(), ours.nan_to_num())
    assert json.loads(report.to_json())["run"]["sampler"] == "euler"  # also where the levels are no numbers
    if form == "flow" or kind in ("nan", "infinite", "negative"):
        assert report.summary().startswith("Not watched: at noise level"), report.summary()


def test_a_model_whose_states_hold_no_noise_is_not_watched(both, hands, detection):
    """As flows from image to image: the state is the image at every level."""
    import comfy.samplers

    model = hands.eps.clone()
    sampling = model.get_model_object("model_sampling")

    class NoNoise(type(sampling)):
        def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
            return latent_image

    own = NoNoise()
    own.__dict__.update(sampling.__dict__)
    model.add_object_patch("model_sampling", own)
    stock, ours, report = both(lambda m: _guider(comfy.samplers.CFGGuider, m, hands), model, detection=detection())
    assert torch.equal(stock, ours)
    assert "not a mix of image and noise" in report.summary()


def test_outside_of_inference_mode_it_samples_as_stock(both, hands, detection):
    import comfy.samplers

    with torch.inference_mode(False):
        stock, ours, report = both(
            lambda m: _guider(comfy.samplers.CFGGuider, m, hands), with_artifact(hands.eps), detection=detection()
        )
    assert torch.equal(stock[1], ours[1]) and report.images[0].corrected
