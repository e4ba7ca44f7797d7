"""Drafts with samplers and guiders of other packs: what is not safe is not done, and the run says so."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from . import foreign
from .conftest import BLIND
from .drafts import MODES, computed, counted, row_by_row
from .randomness import seed_all

ALL = "computed to the end"


SAMPLERS = {
    "plain": lambda: foreign.euler(),
    "reports late": lambda: foreign.euler(report="late"),
    "bare": lambda: foreign.euler(bare=True),
    "in place": lambda: foreign.euler(in_place=True),
    "keyword": lambda: foreign.euler(keyword=True),
    "heun, late": lambda: foreign.heun_that_reports_late,
    "in halves": lambda: foreign.in_halves,
    "in halves at the end": lambda: foreign.in_halves_at_the_end,
    "chained": lambda: foreign.chained(),
    "restarting": lambda: foreign.restarting(at=6, to=4),
    "detailed": lambda: foreign.detailed(),
    "own default": lambda: foreign.own_default(),
    "seeded once": lambda: foreign.seeded_once(),
    "seeded each step": lambda: foreign.seeded_each_step,
    "numpy": lambda: foreign.of_numpy,
    "global torch": lambda: foreign.of_globals("torch"),
    "global numpy": lambda: foreign.of_globals("numpy"),
}


@pytest.fixture
def registered(monkeypatch):
    """Adds a function to ComfyUI's samplers, as packs do."""
    import comfy.k_diffusion.sampling
    from comfy.samplers import KSampler

    def register(function, name="of_a_pack"):
        monkeypatch.setattr(comfy.k_diffusion.sampling, f"sample_{name}", function, raising=False)
        monkeypatch.setattr(KSampler, "SAMPLERS", [*KSampler.SAMPLERS, name])
        return name

    return register


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("mode", MODES)
def test_samplers_of_other_packs(drafted, hands, registered, mode, name):
    sampler = registered(SAMPLERS[name]())
    model = row_by_row(hands.eps)
    seed_all()
    whole, _, _ = drafted(model, keep=4, sampler_name=sampler, at_once=mode)
    seed_all()
    picked, report, places = drafted(model, sampler_name=sampler, at_once=mode)
    if "global numpy" in name and mode == "one":  # each run continues the numbers of the run before
        assert torch.isfinite(picked).all()
    else:
        assert torch.equal(picked, whole[places])
    one_image_at_a_time = name == "in halves" and mode == "all"
    assert len(places) == (4 if one_image_at_a_time else 2)
    if one_image_at_a_time:
        assert "All drafts were finished" in report.summary()


class _Unseeded:
    """Draws other noise in each run, from a generator that nobody can wind back."""

    def __call__(self, model, x, sigmas, extra_args=None, callback=None, disable=None):
        generator = np.random.default_rng(np.random.SeedSequence().entropy)
        draw = lambda x, _: torch.from_numpy(generator.standard_normal(x.shape)).to(x)  # noqa: E731
        return foreign.euler(draw)(model, x, sigmas, extra_args, callback, disable)


def test_a_sampler_that_never_draws_the_same_noise_is_computed_from_its_start(drafted, hands, registered):
    rows: Counter[int] = Counter()
    unseeded = _Unseeded()
    sampler = registered(lambda *args, **kwargs: unseeded(*args, **kwargs))
    picked, report, places = drafted(counted(hands.eps, rows), sampler_name=sampler, at_once="one")
    assert len(picked) == len(places) == 2
    assert torch.isfinite(picked).all()
    assert picked.abs().mean() < 3
    assert computed(rows) == 2 * (4 * 3 + 2 * 8)
    assert report.run.model_calls >= 4 * 3


def test_a_sampler_that_handles_the_errors_of_its_model_lets_a_draft_stop(drafted, hands, registered):
    def stubborn(model, x, sigmas, extra_args=None, callback=None, disable=None):
        def again(x, *args, **kwargs):
            try:
                return model(x, *args, **kwargs)
            except Exception:
                return torch.zeros_like(x)

        return foreign.euler()(again, x, sigmas, extra_args, callback, disable)

    rows: Counter[int] = Counter()
    sampler = registered(stubborn)
    model = counted(row_by_row(hands.eps), rows)
    whole, _, _ = drafted(row_by_row(hands.eps), keep=4, at_once="one", sampler_name=sampler)
    picked, _, places = drafted(model, sampler_name=sampler, at_once="one")
    assert torch.equal(picked, whole[places])
    assert computed(rows) == 2 * (4 * 3 + 2 * 5)


def _guided(run_node, core_node, guider, sampler=None, keep=2, batch=4, **more):
    import comfy.samplers

    model = guider.model_patcher
    drafts = run_node("ASCED_Drafts", keep=keep, decide_at=0.28)[0]
    return run_node(
        "ASCED_SamplerCustomAdvanced", noise=core_node("RandomNoise", noise_seed=3)[0], guider=guider,
        sampler=sampler or core_node("KSamplerSelect", sampler_name="euler")[0],
        sigmas=comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 8),
        latent_image={"samples": torch.zeros(batch, 3, 16, 16)}, drafts=drafts,
        detection=run_node("ASCED_Detection", **BLIND)[0], **more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["CFGGuider", "BasicGuider", "DualCFGGuider", "PerpNegGuider"])
def test_guiders_of_comfyui(run_node, core_node, hands, kind):
    three = [[hands.positive[0][0], {"asced_label": torch.tensor([3])}]]
    given = {
        "CFGGuider": {"positive": hands.positive, "negative": hands.negative, "cfg": 2.0},
        "BasicGuider": {"conditioning": hands.positive},
        "DualCFGGuider": {"cond1": hands.positive, "cond2": hands.positive, "negative": hands.negative,
                          "cfg_conds": 2.0, "cfg_cond2_negative": 1.5, "style": "regular"},
        "PerpNegGuider": {"positive": hands.positive, "negative": three, "empty_conditioning": hands.negative,
                          "cfg": 2.0, "neg_scale": 1.0},
    }[kind]  # fmt: skip
    guider = core_node(kind, model=row_by_row(hands.eps), **given)[0]
    held = dict(vars(guider))
    whole = _guided(run_node, core_node, guider, keep=4)
    out = _guided(run_node, core_node, guider)
    report = out[3]
    assert torch.equal(out[0]["samples"], whole[0]["samples"][list(report.drafts.kept)])
    assert torch.equal(out[1]["samples"], whole[1]["samples"][list(report.drafts.kept)])
    assert (ALL in report.summary()) == (kind == "PerpNegGuider")
    assert vars(guider).keys() == held.keys()
    assert all(vars(guider)[name] is value for name, value in held.items())


def test_a_guider_that_ignores_the_options_of_a_call(run_node, core_node, hands):
    import comfy.samplers

    class Deaf(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            return super().predict_noise(x, timestep, {}, seed)

    guider = Deaf(row_by_row(hands.eps))
    guider.set_conds(hands.positive, hands.negative)
    guider.set_cfg(2.0)
    whole = _guided(run_node, core_node, guider, keep=4)
    out = _guided(run_node, core_node, guider)
    assert torch.equal(out[0]["samples"], whole[0]["samples"][list(out[3].drafts.kept)])


@pytest.mark.parametrize("kind", ["Counting", "list", "object"])
def test_a_sampler_object_of_the_graph_is_not_written_to(run_node, core_node, hands, kind):
    import comfy.samplers

    guider = core_node("CFGGuider", model=row_by_row(hands.eps), positive=hands.positive, negative=hands.negative,
                       cfg=2.0)[0]  # fmt: skip

    def sampler():
        if kind == "Counting":
            return comfy.samplers.KSAMPLER(foreign.Counting())
        import comfy.k_diffusion.sampling as ks

        source = foreign.given_source(kind, (4, 3, 16, 16))
        return comfy.samplers.KSAMPLER(ks.sample_euler_ancestral, {"noise_sampler": source})

    whole = _guided(run_node, core_node, guider, sampler(), keep=4)
    own = sampler()
    held, function = dict(vars(own)), own.sampler_function
    out = _guided(run_node, core_node, guider, own)
    assert torch.equal(out[0]["samples"], whole[0]["samples"][list(out[3].drafts.kept)])
    assert vars(own) == held
    assert own.sampler_function is function


def test_a_sampler_that_shows_the_batch_too_late_finishes_all_drafts(drafted, hands, registered):
    def in_halves_at_the_start(model, x, sigmas, **kwargs):
        x = foreign.in_halves(model, x, sigmas[:5], **kwargs)
        return foreign.euler(first=4)(model, x, sigmas[4:], **kwargs)

    sampler = registered(in_halves_at_the_start)
    picked, report, places = drafted(sampler_name=sampler)
    assert places == [0, 1, 2, 3]
    assert len(picked) == 4
    assert "All drafts were finished" in report.summary()
