"""The benchmark of drafts: what is compared with what, and at what price."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the benchmarks' packages are not installed")
pytest.importorskip("torch_fidelity", reason="the benchmarks' packages are not installed")

from benchmarks.hands import HandSampler, record, to_uint8
from benchmarks.picking import affordable, price
from benchmarks.picking_figures import coverage, partition, pick
from benchmarks.picking_runs import real_features
from benchmarks.picking_signals import by_value
from benchmarks.picking_varied import Variation, record_variation
from benchmarks.ranking import auroc, members

LABELS = np.arange(90) % 10


def test_drafts_of_different_classes_never_meet():
    groups = partition(members(LABELS), 4, np.random.default_rng(0))
    assert groups.shape == (20, 4)
    assert len(np.unique(groups)) == groups.size
    assert (LABELS[groups] == LABELS[groups[:, :1]]).all()


def test_what_the_class_alone_predicts_does_not_count():
    bad = np.random.default_rng(0).random(90) < 0.1 + 0.08 * LABELS
    by_class = LABELS.astype(float)
    assert auroc(by_class, bad, [np.arange(90)]) > 0.6
    assert auroc(by_class, bad, members(LABELS)) == 0.5
    assert auroc(bad.astype(float), bad, members(LABELS)) == 1


def test_the_draft_with_the_lowest_value_is_kept():
    values = np.random.default_rng(0).random(90)
    groups = partition(members(LABELS), 3, np.random.default_rng(1))
    np.testing.assert_array_equal(values[pick(by_value(values), groups)], values[groups].min(1))


def test_eight_drafts_of_seven_calls_cost_three_plain_runs():
    assert price(1, 24, 0) == 1
    assert price(8, 6, 0) == pytest.approx((8 * 7 + 18) / 25)
    assert affordable(6, 0) == 8 and affordable(6, 1) == 7


def test_photographs_cover_themselves_and_one_of_them_does_not():
    real = real_features("final")
    assert coverage("final", real) == 1
    assert coverage("final", real[:1]) < 0.1


def test_the_loop_of_the_variations_samples_what_the_recording_does():
    seeds = [3, 14]
    varied = np.load(io.BytesIO(record_variation(Variation(steps=8), "early", seeds)))
    plain = record(HandSampler("early", steps=8), seeds)
    np.testing.assert_array_equal(varied["images"], to_uint8(plain.images))
    np.testing.assert_array_equal(varied["now"], plain.predictions[2].half().numpy())


def test_guidance_moves_the_image_away_from_the_one_without_a_label():
    plain, guided = (
        np.load(io.BytesIO(record_variation(Variation(steps=4, guidance=g), "early", [3])))["images"]
        for g in (1.0, 4.0)
    )
    assert (plain != guided).any()
