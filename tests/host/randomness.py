"""The global random generators, for tests that compare where two runs leave them."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_all(seed: int = 1) -> None:
    """Seeds the global generators of torch, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def states() -> tuple[object, ...]:
    """Their states, as plain values that can be compared."""
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
