"""Each kind of pipeline and scheduler, sampled with random weights: docs/diffusers.md has the table."""

from __future__ import annotations

import pytest

from .families import FAMILIES, SCHEDULERS
from .rows import measured, side

CLOSE = 0.2  # of pictures with values up to 2: schedulers whose last level is not 0 leave some noise
ON = "PixArt-α"  # the schedulers are tried on this one, because it is fast
NOT_WATCHED = {"Heun": "more than once a step", "KDPM2": "more than once a step", "DPM++ SDE": "more than once a step",
               "LCM, 4 steps": "fewer than two steps"}  # fmt: skip


def corrected_alone(row, calls_a_step):
    """Image 1 is corrected and no other, with one repeated step or none."""
    assert row["identical"] and row["watched"]
    for source, extra in (("current", 1), ("previous", 0)):
        result = row[source]
        frames = len(result["corrected"]) // 3
        assert result["corrected"] == [image // frames == 1 for image in range(3 * frames)], source
        assert result["others"] and result["changed"] and result["generator"], source
        assert result["apart"] < CLOSE, "the second scheduler did not arrive where the first one did"
        assert result["extra"] == extra * calls_a_step and result["reported"] == extra, source


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pipeline_is_corrected_and_otherwise_left_alone(name):
    family = FAMILIES[name]
    row = measured(family)
    corrected_alone(row, row["calls"] // row["steps"])
    assert row["current"]["size"] == side(family)


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in NOT_WATCHED])
def test_a_scheduler_goes_on_from_the_corrected_state(name):
    make, more = SCHEDULERS[name]
    corrected_alone(measured(FAMILIES[ON], make(), **more), 1)


@pytest.mark.parametrize("name", NOT_WATCHED)
def test_a_scheduler_that_cannot_be_watched_samples_as_before(name):
    make, more = SCHEDULERS[name]
    row = measured(FAMILIES[ON], make(), **more)
    assert row["identical"] and not row["watched"]
    assert row["note"].startswith("Not watched: ") and NOT_WATCHED[name] in row["note"]
    assert not row["current"]["changed"] and row["current"]["extra"] == 0
