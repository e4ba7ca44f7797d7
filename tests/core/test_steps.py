"""Which step a sampler's report belongs to, told from the noise levels of its model calls."""

from __future__ import annotations

import pytest
import torch

from asced_core.kdiffusion import Asked, Call, Steps

SIGMAS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.0)


def _call(sigma, dtype=torch.float32):
    x, denoised = torch.zeros(2), torch.zeros(2)
    told = torch.full((2,), sigma, dtype=dtype)
    return Call(Asked(x, told, (), {}), x, denoised, denoised)


def _report(call, i, sigma=None, **more):
    return {"i": i, "x": call.x, "denoised": call.denoised, **({} if sigma is None else {"sigma": sigma}), **more}


def test_the_level_counts_and_not_the_number():
    steps = Steps(SIGMAS)
    for number, level in ((0, 8.0), (1, 4.0), (0, 2.0), (1, 1.0)):  # two parts that each count from 0
        call = _call(level)
        assert steps.find(_report(call, number), [call]) == (SIGMAS.index(level), call)
    assert steps.has_all(range(4)) and not steps.has_all(range(5)) and not steps.told_otherwise


@pytest.mark.parametrize("named", [True, False])
def test_a_late_report_belongs_to_the_first_call(named):
    steps, first, second = Steps(SIGMAS), _call(8.0), _call(4.0)
    report = _report(first, 0) if named else {"i": 0, "denoised": torch.zeros(2)}
    assert steps.find(report, [first, second]) == (0, first)


def test_an_early_report_belongs_to_the_last_call():
    """Heun evaluates the next level before the next step begins there."""
    steps, first = Steps(SIGMAS), _call(8.0)
    assert steps.find(_report(first, 0), [first]) == (0, first)
    between, begin = _call(4.0), _call(4.0)
    assert steps.find({"i": 1, "denoised": torch.zeros(2)}, [between, begin]) == (1, begin)


def test_going_back_is_noticed():
    steps = Steps(SIGMAS)
    for number, level in enumerate((8.0, 4.0, 2.0, 4.0)):
        call = _call(level)
        steps.find(_report(call, number), [call])
    assert steps.went_back and not steps.has_all([0, 1])


def test_levels_between_the_steps_belong_to_none():
    steps, call = Steps(SIGMAS), _call(6.0)
    assert steps.find(_report(call, 0, 6.0), [call]) is None
    assert steps.find(_report(call, 0), []) is None
    assert not steps.seen


@pytest.mark.parametrize(
    ("told", "reported", "accepted"),
    [(7.4, {"sigma": 8.0}, True), (7.4, {}, False), (4.5, {"sigma": 8.0}, False), (7.4, {"sigma": 7.4}, False),
     (9.0, {"sigma": 8.0, "sigma_hat": 9.0}, False)],
)  # fmt: skip
def test_a_sampler_may_tell_the_model_a_little_less_than_it_reports(told, reported, accepted):
    steps, call = Steps(SIGMAS), _call(told)
    found = steps.find({**_report(call, 0), **reported}, [call])
    assert (found == (0, call)) == accepted == steps.told_otherwise


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_narrow_dtypes_round_the_levels(dtype):
    sigmas = (7.123, 3.377, 1.111, 0.0)
    steps = Steps(sigmas)
    for number, level in enumerate(sigmas[:-1]):
        call = _call(level, dtype)
        assert steps.find(_report(call, number), [call]) == (number, call)


def test_a_known_function_is_taken_at_its_word_and_nothing_is_read():
    steps = Steps(SIGMAS, known=True)
    call = Call(Asked(torch.zeros(2), torch.zeros(2, device="meta"), (), {}), *[torch.zeros(2)] * 3)
    assert steps.find({"i": 3}, [call]) == (3, call)
    assert steps.find({"i": 9}, [call]) is None
