"""How likely a mark is right: learned from marks whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from asced_core.detect.certainty import FEWEST, Certainty


def _marks(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    strengths = rng.uniform(0.1, 0.9, count)
    return strengths, rng.random(count) < strengths


def test_stronger_marks_are_never_less_likely_right():
    certainty = Certainty.of(*_marks(400))
    assert certainty is not None
    assert list(certainty.shares) == sorted(certainty.shares)
    assert list(certainty.strengths) == sorted(certainty.strengths)
    assert certainty(0.9) > certainty(0.1)


def test_the_share_of_right_marks_is_kept():
    """Said and right agree over all marks that it was learned from."""
    strengths, right = _marks(500)
    certainty = Certainty.of(strengths, right)
    assert certainty is not None
    assert np.mean([certainty(s) for s in strengths]) == pytest.approx(right.mean(), abs=0.02)


def test_too_few_marks_say_nothing():
    assert Certainty.of([0.5] * (FEWEST - 1), [True] * (FEWEST - 1)) is None
    assert Certainty.of([0.5] * FEWEST, [True] * FEWEST) is not None


def test_a_score_is_read_in_the_unit_of_its_threshold():
    certainty = Certainty((0.2, 0.4), (0.1, 0.5))
    assert certainty.at(0.2)(2.0) == certainty(0.4) == 0.5
    assert certainty.at(0.2)(100.0) == 0.5 and certainty.at(0.2)(0.1) == 0.1
