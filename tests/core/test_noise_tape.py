"""A second run draws what the first one drew, wherever its numbers come from; nothing else is changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asced_core.kdiffusion import GlobalGenerators, NoiseTape, World, obstacle_to_entry

CPU = torch.device("cpu")
DRAWS = {
    "randn_like": torch.randn_like,
    "randn": lambda x: torch.randn(x.shape),
    "normal_": lambda x: torch.empty_like(x).normal_(),
    "normal": lambda x: torch.normal(0.0, 1.0, x.shape),
    "rand_like": torch.rand_like,
    "out": lambda x: torch.randn(x.shape, out=torch.empty_like(x)),
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.5),
    "distribution": lambda x: torch.distributions.Normal(0.0, 1.0).sample(x.shape),
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_is_recorded_is_what_would_have_been_drawn(name):
    x = torch.zeros(2, 3)
    torch.manual_seed(1)
    expected = [DRAWS[name](x) for _ in range(4)]
    torch.manual_seed(1)
    tape = NoiseTape()
    drawn = []
    with tape:
        for step in range(4):
            if step == 2:
                replay = tape.replay(tape.position)
            drawn.append(DRAWS[name](x))
            tape.next_step()
    replay.begun = True
    with replay:
        again = [DRAWS[name](x) for _ in range(2)]
    assert all(map(torch.equal, drawn, expected)) and all(map(torch.equal, again, expected[2:]))
    assert replay.missed == 0
    with replay:
        DRAWS[name](x)
    assert replay.missed == 1


def test_a_draw_that_is_changed_in_place_is_repeated_as_it_was_drawn():
    tape = NoiseTape()
    with tape:
        replay = tape.replay(0)
        first = torch.randn(3)
        kept = first.clone()
        first.zero_()
    replay.begun = True
    with replay:
        assert torch.equal(torch.randn(3), kept)


def test_draws_of_another_kind_or_stream_are_not_mixed_up():
    tape = NoiseTape()
    with tape:
        replay = tape.replay(0)
        torch.randn(3, generator=torch.Generator().manual_seed(4))
    replay.begun = True
    own = torch.Generator().manual_seed(5)
    expected = torch.randn(3, generator=torch.Generator().manual_seed(5))
    with replay:
        assert torch.equal(torch.randn(3, generator=own), expected)
        torch.rand(3, generator=torch.Generator().manual_seed(4))
        torch.randn(4, generator=torch.Generator().manual_seed(4))
    assert replay.missed == 3


def test_nothing_is_recorded_while_it_is_paused_and_other_modes_stay():
    tape = NoiseTape()
    with tape:
        with tape.paused():
            torch.randn(3)
            assert torch.overrides._get_current_function_mode() is None
        with torch.device("cpu"), tape.paused():  # another mode lies on top
            torch.randn(3)
        assert tape.position == 0
        torch.randn(3)
    assert tape.position == 1


@pytest.mark.parametrize(
    ("seeds", "replayable"),
    [
        ([None] * 6, True),  # a global generator
        ([7] * 6, True),  # one of its own
        ([None, 7, 7, 7, 7, 7], True),  # another for the set-up
        ([7, None, 7, None, 7, None], True),
        ([1, 2, 3, 4, 5, 6], False),  # seeded at every step
        ([1, 2], False),
        ([1], True),
        ([], True),
    ],
)
def test_a_function_that_seeds_every_step_anew_cannot_be_repeated(seeds, replayable):
    tape = NoiseTape()
    with tape:
        for seed in seeds:
            torch.randn(2, generator=None if seed is None else torch.Generator().manual_seed(seed))
            tape.next_step()
    assert tape.replayable == replayable


def test_a_world_of_its_own_for_the_random_generators():
    effects = GlobalGenerators(CPU)
    world = World(effects, effects.read())
    expected = [(float(torch.rand(1)), float(np.random.rand())) for _ in range(3)]  # noqa: NPY002
    state = torch.get_rng_state()
    for one in expected:
        with world.entered():
            assert (float(torch.rand(1)), float(np.random.rand())) == one  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), state)


def _sampler(model, x, sigmas, extra_args=None, callback=None, disable=None, restart=None, seeded=False, extra=0):
    order = list(range(len(sigmas) - 1))
    if restart is not None and len(order) > restart:
        order = order[: restart + 1] + order[restart - 1 :]
    hidden = np.random.default_rng(extra_args["seed"]) if seeded else None
    for n, i in enumerate(order):
        for _ in range(2 if n < extra else 1):
            denoised = model(x, sigmas[i] * torch.ones(len(x)))
        callback({"i": n, "x": x, "sigma": sigmas[i], "denoised": denoised})
        x = denoised + (x - denoised) * 0.7
        if hidden is not None:
            x = x + float(hidden.standard_normal())
    return x


@settings(deadline=None, derandomize=True, database=None, max_examples=20)
@given(step=st.integers(1, 6), length=st.integers(8, 12))
@pytest.mark.parametrize(
    ("form", "obstacle"),
    [
        ({}, ""),
        ({"seeded": True}, "draws noise that cannot be recorded"),
        ({"extra": 1}, "takes other steps when it starts in mid-run"),
        ({"restart": 7}, "takes other steps when it starts in mid-run"),
        ({"unknown": 1}, "cannot start in mid-run (TypeError"),
    ],
)
def test_a_rehearsal_tells_what_a_function_would_do(step, length, form, obstacle):
    sigmas, x, effects = torch.linspace(1, 0, length + 1), torch.ones(2, 3), GlobalGenerators(CPU)
    state = torch.get_rng_state()
    options = {"extra_args": {"seed": 3}, **form}
    found = obstacle_to_entry(
        _sampler, None, lambda x, *_: torch.zeros_like(x), x, sigmas, step, step, options, effects
    )
    if form == {"restart": 7} and length <= 7:
        obstacle = ""
    assert found.startswith(obstacle) and bool(found) == bool(obstacle)
    assert torch.equal(torch.get_rng_state(), state)
