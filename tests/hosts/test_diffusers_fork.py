"""The scheduler of corrected images: it starts at T_c, without a past."""

from __future__ import annotations

import copy
import inspect

import diffusers
import pytest
import torch

from asced_core.hosts.diffusers.fork import Fork, same_noise
from asced_core.hosts.diffusers.levels import read_levels

from .families import SCHEDULERS, noise

EXACT = ("DDIM", "PNDM", "Euler", "LMS", "DPM++ 2M", "DPM++ 2M Karras", "DPM++ singlestep", "DEIS", "UniPC")
T_C = 11


@pytest.mark.parametrize("name", EXACT)
def test_a_scheduler_without_a_past_takes_exact_steps(name):
    """Every solver is exact while neither the clean image nor the noise of the prediction changes."""
    scheduler = SCHEDULERS[name][0]()
    scheduler.set_timesteps(20)
    levels = read_levels(copy.deepcopy(scheduler), {}).levels
    fork = Fork(copy.deepcopy(scheduler), T_C, torch.ones(2, 1, 1, 1, dtype=torch.bool))
    clean, eps = noise(2, 4, 8, 8, seed=1), noise(2, 4, 8, 8, seed=2)
    x = levels[T_C].alpha * clean + levels[T_C].sigma * eps
    for place in range(T_C, T_C + 5):
        given = inspect.signature(scheduler.step).bind(eps, scheduler.timesteps[place], x, return_dict=False)
        x = fork.step(given)[0]
        after = levels[place + 1]
        assert torch.allclose(x, after.alpha * clean + after.sigma * eps, atol=2e-3), place


def test_only_corrected_images_take_its_result():
    scheduler = diffusers.DDIMScheduler()
    scheduler.set_timesteps(20)
    fork = Fork(copy.deepcopy(scheduler), T_C, torch.tensor([True, False]).view(2, 1, 1, 1))
    x = noise(2, 4, 8, 8)
    mine = scheduler.step(x, scheduler.timesteps[3], x)
    theirs = fork.step(inspect.signature(scheduler.step).bind(2 * x, scheduler.timesteps[3], x))
    before = mine.prev_sample.clone()
    merged = fork.merged(mine, theirs)
    assert merged is mine and torch.equal(merged.prev_sample[1], before[1])
    assert torch.equal(merged.prev_sample[0], theirs.prev_sample[0])
    assert not torch.equal(before[0], theirs.prev_sample[0])


def test_noise_is_drawn_twice_the_same():
    own, device = torch.Generator().manual_seed(1), torch.device("cpu")
    torch.manual_seed(2)
    with same_noise([own, None], device):
        first = torch.randn(3, generator=own), torch.randn(3)
    assert all(torch.equal(a, b) for a, b in zip(first, (torch.randn(3, generator=own), torch.randn(3)), strict=True))
