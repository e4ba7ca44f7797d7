"""Drafts: only the best images of a batch are finished, and each is what it would have been."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from .conftest import BLIND
from .drafts import MODES, computed, conditioning_row, counted, row_by_row, same
from .randomness import seed_all, states


def test_a_finished_draft_is_what_it_would_have_been_with_every_sampler(drafted):
    from comfy.samplers import KSampler

    for sampler in KSampler.SAMPLERS:
        whole, _, every = drafted(keep=3, drafts=3, sampler_name=sampler)
        assert every == [0, 1, 2]
        for mode in MODES:
            picked, report, places = drafted(keep=1, drafts=3, sampler_name=sampler, at_once=mode)
            if sampler == "dpm_adaptive":  # it is not watched, and says that all were finished
                assert len(picked) == 3
                assert "All drafts were finished" in report.summary()
                continue
            assert len(picked) == len(places) == 1, sampler
            assert report.drafts.kept == tuple(places), sampler
            assert same(picked, whole, places), (sampler, mode)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "heun"])
@pytest.mark.parametrize("mode", MODES)
def test_a_finished_draft_is_the_image_of_its_seed_bit_for_bit(drafted, ksampler, hands, mode, sampler):
    # the network sees one row at a time, as on a card on which the size of the batch changes nothing
    model = row_by_row(hands.eps)
    picked, _, places = drafted(model, sampler_name=sampler, at_once=mode)
    for image, place in zip(picked, places, strict=True):
        prompts = {"positive": conditioning_row(hands.positive, place), "negative": hands.negative}
        alone = ksampler(model, 5 + place, sampler_name=sampler, **prompts)
        assert torch.equal(image, alone[0])


@pytest.mark.parametrize("keep", [4, 9])
@pytest.mark.parametrize("mode", MODES)
def test_finishing_all_drafts_is_plain_sampling(drafted, ksampler, hands, mode, keep):
    picked, report, places = drafted(keep=keep, at_once=mode, sampler_name="dpmpp_2s_ancestral")
    assert places == [0, 1, 2, 3]
    for image, place in zip(picked, places, strict=True):
        prompts = {"positive": conditioning_row(hands.positive, place), "negative": hands.negative}
        alone = ksampler(seed=5 + place, sampler_name="dpmpp_2s_ancestral", **prompts)
        assert torch.equal(image, alone[0]) if mode == "one" else same(image, alone[0])
    assert report.drafts.all_kept


@pytest.mark.parametrize("keep", [3, 7])
def test_a_sampler_that_keeps_all_its_drafts_is_plain_sampling(
    run_node, core_node, hands, latent, host, keep, detection
):
    import comfy.samplers

    drafts = run_node("ASCED_Drafts", keep=keep, decide_at=0.28)[0]
    looking = {"detection": detection(**BLIND)}
    common = {"steps": 8, "cfg": 2.0, "sampler_name": "dpmpp_2m_sde", "scheduler": "normal", "positive": hands.positive,
              "negative": hands.negative, "latent_image": latent(3, 16)}  # fmt: skip
    advanced = {"add_noise": "enable", "noise_seed": 3, "start_at_step": 0, "end_at_step": 7,
                "return_with_leftover_noise": "enable"}  # fmt: skip
    ours = run_node("ASCED_KSampler", model=hands.eps, seed=3, denoise=1.0, drafts=drafts, **common, **looking)[0]
    stock = core_node("KSampler", model=hands.eps, seed=3, denoise=1.0, **common)[0]
    assert torch.equal(ours["samples"], stock["samples"])
    ours = run_node("ASCED_KSamplerAdvanced", model=hands.eps, drafts=drafts, **common, **advanced, **looking)[0]
    stock = core_node("KSamplerAdvanced", model=hands.eps, **common, **advanced)[0]
    assert torch.equal(ours["samples"], stock["samples"])
    custom = {
        "noise": core_node("RandomNoise", noise_seed=3)[0],
        "guider": core_node("CFGGuider", model=hands.eps, positive=hands.positive, negative=hands.negative, cfg=2.0)[0],
        "sampler": core_node("KSamplerSelect", sampler_name="heun")[0],
        "sigmas": comfy.samplers.calculate_sigmas(hands.eps.get_model_object("model_sampling"), "normal", 8),
        "latent_image": latent(3, 16),
    }
    ours = run_node("ASCED_SamplerCustomAdvanced", drafts=drafts, **custom, **looking)
    stock = core_node("SamplerCustomAdvanced", **custom)
    assert torch.equal(ours[0]["samples"], stock[0]["samples"])
    assert torch.equal(ours[1]["samples"], stock[1]["samples"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_sde"])
def test_the_other_drafts_cost_no_network_time_after_the_decision(drafted, hands, sampler, mode):
    rows: Counter[int] = Counter()
    _, report, _ = drafted(counted(hands.eps, rows), keep=1, drafts=5, sampler_name=sampler, at_once=mode)
    whole: Counter[int] = Counter()
    drafted(counted(hands.eps, whole), keep=1, drafts=1, sampler_name=sampler)
    calls = whole[2]  # of one image, with prompt and negative prompt
    first = {"euler": 3, "heun": 5, "dpmpp_sde": 5}[sampler]  # up to the decision after step 3 of 8
    assert computed(rows) == 2 * (5 * first + calls - first)
    assert report.run.model_calls == (calls if mode == "all" else 5 * first + calls - first)


@pytest.mark.parametrize("mode", MODES)
def test_random_generators_end_as_in_stock(drafted, ksampler, mode):
    seed_all()
    _, _, places = drafted(at_once=mode, sampler_name="euler_ancestral")
    ours = states()
    seed_all()
    for seed in range(5, 9) if mode == "all" else [5 + places[-1]]:
        ksampler(seed=seed, sampler_name="euler_ancestral")
    assert ours[1:] == states()[1:]
    if mode == "one":
        assert ours[0] == states()[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("steps", "decide_at"), [(1, 0.28), (2, 0.28), (2, 0.95), (4, 0.28), (10, 0.95), (8, 0.05)])
def test_few_steps_and_late_decisions_keep_what_was_asked_for(drafted, ksampler, hands, mode, steps, decide_at):
    for sampler in ("euler", "heun", "dpmpp_2m"):
        whole, _, _ = drafted(keep=4, steps=steps, sampler_name=sampler, at_once=mode)
        picked, report, places = drafted(steps=steps, decide_at=decide_at, at_once=mode, sampler_name=sampler)
        assert len(picked) == len(places) == 2, sampler
        assert same(picked, whole, places), sampler
        assert report.drafts.kept == tuple(places)
        assert "could not be read" not in report.summary()


@pytest.mark.parametrize("mode", MODES)
def test_the_report_says_whether_the_drafts_have_prompts_of_their_own(drafted, hands, mode):
    one = [[hands.positive[0][0], {"asced_label": torch.tensor([3])}]]
    assert drafted(at_once=mode, steps=2)[1].run.several_prompts
    assert not drafted(at_once=mode, steps=2, positive=one)[1].run.several_prompts
