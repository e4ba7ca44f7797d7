"""Starting a sampler's function in mid-run, without an edit, has to lead to the same result."""

from __future__ import annotations

import pytest
import torch


def _function(name, sigmas):
    import comfy.samplers
    from asced.nodes.sampling.sampler_function import SamplerFunction

    return SamplerFunction(comfy.samplers.sampler_object(name), sigmas)


def _denoise(x, sigma, **_):
    return torch.tanh(x) / (1 + sigma.view(-1, 1))


@pytest.mark.parametrize("evaluations", [9, 10, 11, 24, 25, 26])
@pytest.mark.parametrize("end", [0.0, 0.5])
def test_dpm_fast_continues_on_the_rest_of_its_own_grid(pack, evaluations, end):
    sigmas = torch.cat([torch.linspace(10, 1, evaluations), torch.tensor([end])])
    function = _function("dpm_fast", sigmas)
    states = []
    x = torch.linspace(-9, 9, 6).reshape(2, 3)
    whole = function.function(_denoise, x, sigmas, extra_args={}, callback=states.append, disable=True)
    assert len(states) == len(function.sigmas) - 1 >= 4
    torch.testing.assert_close(torch.stack([state["sigma"] for state in states]), torch.tensor(function.sigmas[:-1]))
    tried = 0
    for step, state in enumerate(states):
        if function.can_enter(step):
            rest = function.entry(step, sigmas)
            again = function.function(_denoise, state["x"], rest, extra_args={}, callback=None, disable=True)
            torch.testing.assert_close(again, whole, rtol=1e-4, atol=1e-4)
            tried += 1
    assert tried >= len(states) - 1


@pytest.mark.parametrize(("name", "last"), [("euler", 8), ("uni_pc", 7), ("dpmpp_2m_sde_gpu", 8)])
def test_others_continue_on_the_rest_of_their_noise_levels(pack, name, last):
    sigmas = torch.linspace(9, 0, 10)
    function = _function(name, sigmas)
    assert function.can_enter(last) and not function.can_enter(last + 1)
    rest = function.entry(3, sigmas)
    assert torch.equal(rest, sigmas[3:])
    rest.zero_()  # as uni_pc may do in part
    assert sigmas[3] == 6


def test_a_sampler_with_its_own_loop_is_not_watched(pack):
    from asced.nodes.sampling.sampler_function import SamplerFunction

    class OwnLoop:
        pass

    assert "OwnLoop has its own sampling loop" in SamplerFunction(OwnLoop(), torch.linspace(1, 0, 5)).obstacle()
