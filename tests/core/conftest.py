"""Core tests know no host."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from asced_core import RunFacts

from .runs import feed, trajectory_of

AUTHORS = Path(__file__).resolve().parent / "authors"


@pytest.fixture(scope="session")
def oracle():
    """Gives the authors' recorded results of a case, see authors/README.md."""
    cases = runpy.run_path(str(AUTHORS / "packing.py"))["unpack"]()
    return lambda name: {key: value.copy() for key, value in cases[name].items()}


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def planted():
    """Predictions [N,1,C,H,W] of a calm run in which a square jumps at one step and then stalls."""

    def make(size: int = 64, channels: int = 3, steps: int = 8, seed: int = 0, batch: int = 1) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        base = torch.rand(batch, channels, size, size, generator=generator) * 0.4 - 0.2
        frames, side = [], size // 6
        for step in range(steps):
            base = base + 0.01 * torch.randn(base.shape, generator=generator)
            frame = base.clone()
            if step >= steps // 2:
                frame[:1, :, size // 3 : size // 3 + side, size // 2 : size // 2 + side] += 0.8
            frames.append(frame)
        return frames

    return make


@pytest.fixture
def report(planted):
    """Of a run of two images, the first of them with an artifact."""
    trajectory = trajectory_of()
    feed(trajectory, planted(batch=2))
    return trajectory.report(RunFacts("euler", 7, 26, 1, 1.5, 0.1, "latent", (512, 512)), ("A note.",))
