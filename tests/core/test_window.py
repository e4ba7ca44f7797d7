"""The window of a run: its ends, its smallest size, and what it notes."""

import numpy as np
import pytest

from asced_core import DetectionSettings, Schedule, edm_level, find_window


def test_the_window_includes_t_d_and_excludes_t_c():
    """T_c < t <= T_d."""
    window = find_window([10.0, 8.0, 6.0, 4.0, 2.0, 0.0], sigma_start=8.0, sigma_end=4.0)
    assert (window.first, window.last, window.decision) == (1, 2, 3)
    assert [step in window for step in range(5)] == [False, True, True, False, False]


def test_two_watched_steps_are_enough_and_one_is_not():
    two = find_window([8.0, 6.0, 4.0, 0.0], 8.0, 5.0)
    assert (two.first, two.last, two.decision) == (0, 1, 2)
    one = find_window([8.0, 4.0, 0.0], 8.0, 5.0)
    assert (one.first, one.last, one.decision) == (0, -1, None) and "fewer than two" in one.notes[0]


@pytest.mark.parametrize("sigmas", [[8.0, 9.0, 0.0], [8.0, 0.0]])
def test_an_empty_window_contains_no_step(sigmas):
    none = find_window(sigmas, 8.0, 5.0)
    assert (none.first, none.last, none.decision) == (0, -1, None)
    assert not any(step in none for step in range(-2, 3))


def test_a_step_at_level_zero_decides_nothing_and_equal_levels_do_not_increase():
    assert find_window([8.0, 6.0, 0.0, 0.0], 8.0, 5.0).decision is None
    assert find_window([8.0, 6.0, 6.0, 4.0, 0.0], 8.0, 5.0).decision == 3


@pytest.mark.parametrize(("steps", "few"), [(9, True), (10, False), (11, False)])
def test_fewer_than_ten_steps_are_few(steps, few):
    notes = find_window([*np.linspace(10.0, 1.0, steps), 0.0], 9.0, 4.0).notes
    assert any(note.startswith("Few steps") for note in notes) == few


@pytest.mark.parametrize(("first", "inside"), [(7.1, True), (7.2, False), (7.3, False), (9.0, False)])
def test_a_run_that_starts_below_nine_tenths_of_t_d_misses_a_part_of_the_window(first, inside):
    sigmas = [first, *np.linspace(7.0, 1.0, 12), 0.0]
    notes = find_window(sigmas, 8.0, 4.0).notes
    assert (
        any(note.startswith(f"This run starts at sigma {first}, inside the detection window") for note in notes)
        == inside
    )
    schedule = Schedule.of([edm_level(s) for s in sigmas], DetectionSettings(), lambda p: 10.0 * (1 - p))
    assert any("of the noise schedule" in note for note in schedule.window.notes) == inside


def test_what_is_known_before_a_run_cannot_be_changed():
    window = find_window([8.0, 6.0, 4.0, 0.0], 8.0, 5.0)
    with pytest.raises(AttributeError):
        window.first = 1
    with pytest.raises(AttributeError):
        Schedule((edm_level(1.0),), window).levels = ()


@pytest.mark.parametrize(("sigmas", "text"), [([8.0, 0.0], "1 step ends"), ([8.0, 7.0, 0.0], "2 steps ends")])
def test_the_reason_counts_the_steps(sigmas, text):
    assert f"this run of {text} before the detection window" in find_window(sigmas, 8.0, 5.0).notes[0]
