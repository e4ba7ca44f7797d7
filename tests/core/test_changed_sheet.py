"""The demo's sheet of changed images."""

import runpy
from pathlib import Path

import numpy as np
import pytest

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "changed_sheet.py"))


@pytest.mark.parametrize(
    ("gain", "strays", "word"),
    [(0.3, 0, "better"), (0.05, 0, "same"), (-0.3, 0, "worse"), (0.3, 1, "worse"), (-0.3, -1, "better")],
)
def test_a_stray_piece_says_more_than_the_digit(gain, strays, word):
    assert TOOL["_verdict"](gain, strays) == word


def test_the_judges_see_a_piece_that_was_taken_away():
    hand = np.full((64, 64, 3), 220, np.uint8)
    hand[20:60, 20:44] = (200, 140, 100)
    torn = hand.copy()
    torn[8:14, 50:58] = (200, 140, 100)
    assert TOOL["verdicts"]([torn, hand, hand], [hand, torn, hand], [1, 1, 1]) == ["better", "worse", "same"]


def test_the_sheet_has_a_column_for_each_image():
    images = [np.zeros((64, 64, 3), np.uint8)] * 3
    sheet = TOOL["sheet_of"](images, images, images, [1, 4, 9], ["same", "better", "same"])
    side, bar = TOOL["SIDE"], TOOL["BAR"]
    assert sheet.shape[0] == 3 * side + bar and sheet.shape[1] >= 3 * side
    assert TOOL["counted"](["same", "better", "same"]) == "1 better, 2 same"
