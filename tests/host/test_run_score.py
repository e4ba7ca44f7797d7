"""What the run score reads in a real run: the prediction before guidance, and without guidance its agreement."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from .conftest import BLIND
from .drafts import counted


@pytest.fixture
def sample(run_node, hands, latent, detection):
    def run(model, cfg, keep=1, at_once="all", negative=None):
        out = run_node(
            "ASCED_DraftAndPick", model=model, seed=5, drafts=3, keep=keep, decide_at=0.3, steps=10, cfg=cfg,
            sampler_name="euler", scheduler="normal", denoise=1.0, positive=hands.positive,
            negative=hands.negative if negative is None else negative, latent_image=latent(1, 16), at_once=at_once,
            detection=detection(**BLIND),
        )  # fmt: skip
        return out[0]["samples"], out[2]

    return run


def test_without_guidance_drafts_are_compared_with_one_call_without_the_prompt(sample, hands):
    rows: Counter[int] = Counter()
    _, report = sample(counted(hands.eps, rows), cfg=1.0)
    assert all(one.score.agreement is not None for one in report.drafts.ranked)
    assert rows == {3: 3 + 1, 1: 7}
    _, guided = sample(hands.eps, cfg=2.0)
    assert all(one.score.agreement is None for one in guided.drafts.ranked)


@pytest.mark.parametrize("at_once", ["all", "one"])
def test_the_added_call_changes_nothing(sample, hands, at_once):
    whole, report = sample(hands.eps, cfg=1.0, keep=3, at_once=at_once)
    assert all(one.score.agreement is None for one in report.drafts.ranked)  # nothing to choose
    picked, report = sample(hands.eps, cfg=1.0, at_once=at_once)
    (place,) = report.drafts.kept
    assert (picked[0] - whole[place]).abs().max() <= 2e-5 * whole.abs().max()


def test_an_empty_negative_leaves_the_sharpness(sample, hands):
    _, report = sample(hands.eps, cfg=1.0, negative=[])
    assert all(one.score.agreement is None for one in report.drafts.ranked)


def test_both_ways_compare_alike(sample, hands):
    for cfg in (1.0, 2.0):
        each = [sample(hands.eps, cfg=cfg, at_once=way)[1].drafts for way in ("all", "one")]
        scores = [[one.relative for one in drafts.ranked] for drafts in each]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
        assert each[0].kept == each[1].kept


def test_sharpness_is_that_of_the_prediction_before_guidance(sample, hands):
    from asced.asced_core.detect.run_score import sharpness

    read = []
    model = hands.eps.clone()

    def note(args):
        read.append(args["cond_denoised"].clone())
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(note)
    _, report = sample(model, cfg=4.0)
    expected = sharpness(read[2]).tolist()
    assert [one.score.sharpness for one in report.drafts.ranked] == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(torch.tensor(expected)).all()
