"""What the patches of a model remember between its calls: it can be read, and put back.

It is in closures, attributes, containers, global names and random generators, and is reached from the patches without
running their code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from ...asced_core.kdiffusion import GlobalGenerators
from .patch_walk import State, Walk, differs

Read = tuple[Any, State]  # of the global generators, and of what was reached


class PatchState:
    """State that is reached from some objects, and that of the global random generators.

    Args:
        roots: patches, options and functions; containers among them are only looked into.
        device: of the run.
    """

    def __init__(self, roots: Iterable[Any], device: torch.device) -> None:
        self._roots, self._device = list(roots), device
        self._generators = GlobalGenerators(device)

    @property
    def generators(self) -> GeneratorState:
        """The random generators among it."""
        return GeneratorState(self._roots, self._device)

    def read(self) -> Read:
        """The state now. Values are kept by reference, except small tensors."""
        return self._generators.read(), Walk(self._roots).state

    def write(self, state: Read) -> None:
        """Puts back a state that ``read`` returned."""
        self._generators.write(state[0])
        self.adopt(state)

    def adopt(self, state: Read) -> None:
        """Puts back what the patches remember, without the global generators."""
        for owner, held, put in state[1].values():
            put(owner, held)


class GeneratorState(PatchState):
    """The same for random generators only, global ones and those of the patches."""

    def read(self) -> Read:
        """The state now."""
        return _generators_of(super().read())

    def write(self, state: Read) -> None:
        """Puts back the generators of a state, which may hold more."""
        super().write(_generators_of(state))

    def adopt(self, state: Read) -> None:
        """Puts back the patches' own."""
        super().adopt(_generators_of(state))


def _generators_of(state: Read) -> Read:
    return state[0], {key: place for key, place in state[1].items() if key[0] == "generator"}


def same_numbers(one: Read, other: Read, tolerance: float) -> bool:
    """True if the floating-point numbers in two states are the same, up to a share of their size.

    A number that was computed from the whole batch, such as a mean change, is another one without some of its images.
    """
    theirs = dict(_numbers(other))
    return all(
        place not in theirs or math.isclose(value, theirs[place], rel_tol=tolerance, abs_tol=tolerance)
        for place, value in _numbers(one)
    )


def _numbers(state: Read) -> Iterator[tuple[Any, float]]:
    """The numbers, and tensors that hold a single one, by place; NaN aside."""
    for key, (_, held, _) in state[1].items():
        items = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else [("", held)]
        for name, value in items:
            single = torch.is_tensor(value) and value.ndim == 0 and value.is_floating_point()
            if (single or isinstance(value, float)) and not math.isnan(value):
                yield (*key, name), float(value)


def changes(before: Read, after: Read) -> set[Any]:
    """The places, generators aside, that hold something else than before. What is new is held by one of them."""
    old = before[1]
    return {
        key
        for key, (_, held, _) in after[1].items()
        if key[0] != "generator" and key in old and differs(old[key][1], held)
    }
