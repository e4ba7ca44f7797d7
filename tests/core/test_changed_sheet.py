"""The demo's sheet of changed images."""

import runpy
from pathlib import Path

import numpy as np
import pytest

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "changed_sheet.py"))


@pytest.mark.parametrize(
    ("lost", "gain", "word"),
    [(0, 0.3, "better"), (0, 0.05, "same"), (0, -0.3, "worse"), (-1, 0.3, "worse"), (1, -0.3, "better")],
)
def test_a_stray_piece_says_more_than_the_digit(lost, gain, word):
    assert TOOL["_verdict"](lost, gain) == word


def _hand_and_torn():
    """A hand, and the same with a stray piece."""
    hand = np.full((64, 64, 3), 220, np.uint8)
    hand[20:60, 20:44] = (200, 140, 100)
    torn = hand.copy()
    torn[8:14, 50:58] = (200, 140, 100)
    return hand, torn


def test_the_judges_see_a_piece_that_was_taken_away():
    hand, torn = _hand_and_torn()
    assert TOOL["verdicts"]([torn, hand, hand], [hand, torn, hand], [1, 1, 1]) == ["better", "worse", "same"]


def test_the_sheet_has_a_column_for_each_image():
    images = [np.zeros((64, 64, 3), np.uint8)] * 3
    sheet = TOOL["sheet_of"](images, images, images, [1, 4, 9], ["same", "better", "same"])
    side, bar = TOOL["SIDE"], TOOL["BAR"]
    assert sheet.shape[0] == 3 * side + bar and sheet.shape[1] >= 3 * side
    assert TOOL["counted"](["same", "better", "same"]) == "1 better, 2 same"


def test_the_picture_shows_the_best_above_the_worst():
    hand, torn = _hand_and_torn()
    before, after = [hand, hand, torn], [hand, torn, hand]
    picture = TOOL["best_and_worst"](before, before, after, [1, 1, 1])
    side, bar = TOOL["SIDE"], TOOL["BAR"]
    spot = (bar + 11 * side // 64, 54 * side // 64)  # where the stray piece is
    left, low = picture.shape[1] - side, picture.shape[0] - side - bar
    shown = [[picture[y + spot[0], x + spot[1], 2] for x in (0, left)] for y in (0, low)]
    assert (np.array(shown) < 150).tolist() == [[True, False], [False, True]]  # stock and corrected, best and worst
