"""Random generators: the global ones, to compare where two runs leave them, and one of a foreign node's own."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch


def seed_all(seed: int = 1) -> None:
    """Seeds the global generators of torch, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def states() -> tuple[object, ...]:
    """Their states, as plain values that can be compared; with a GPU, that of the GPU's as well."""
    gpu = [torch.cuda.get_rng_state().tolist()] if torch.cuda.is_available() else []
    of_numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
    return torch.get_rng_state().tolist(), *gpu, of_numpy, random.getstate()


def generator_of(seed: int) -> torch.Generator:
    """A generator where ComfyUI samples."""
    import comfy.model_management as management

    return torch.Generator(management.get_torch_device()).manual_seed(seed)


def drawn(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Gaussian noise from a generator, on its device."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device)
