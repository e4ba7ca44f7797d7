"""What a call leaves behind besides its result, so that a call that stock does not make can be undone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch


class SideEffects(Protocol):
    """State outside of a run that its calls may change."""

    def read(self) -> Any:
        """The state now."""
        ...

    def write(self, state: Any) -> None:
        """Puts back a state that ``read`` returned."""
        ...

    def combined(self, generators: Any, memory: Any) -> Any:
        """The random generators of one state, with everything else of another."""
        ...


class GlobalGenerators:
    """The global random generators of torch, of one device, of numpy and of Python.

    Args:
        device: of the run.
    """

    def __init__(self, device: torch.device) -> None:
        own = getattr(torch, device.type, None)
        self._device = own if device.type != "cpu" and hasattr(own, "get_rng_state") else None
        self._which = () if device.type == "mps" else (device,)  # there is only one of it

    def read(self) -> tuple[Any, ...]:
        """The state of each generator; copies a few kilobytes."""
        on_device = None if self._device is None else self._device.get_rng_state(*self._which)
        return torch.get_rng_state(), on_device, np.random.get_state(), random.getstate()  # noqa: NPY002 - global

    def write(self, state: tuple[Any, ...]) -> None:
        """Puts back a state that ``read`` returned."""
        on_cpu, on_device, of_numpy, of_python = state
        torch.set_rng_state(on_cpu)
        if self._device is not None:
            self._device.set_rng_state(on_device, *self._which)
        np.random.set_state(of_numpy)  # noqa: NPY002 - global
        random.setstate(of_python)

    def combined(self, generators: tuple[Any, ...], memory: tuple[Any, ...]) -> tuple[Any, ...]:
        """The first state; there is nothing else."""
        return generators


class World:
    """A state of its own for calls that must not touch the first run's.

    Args:
        effects: what the calls may change.
        state: to begin with.

    Attributes:
        state: what it is now.
    """

    def __init__(self, effects: SideEffects, state: Any) -> None:
        self._effects, self.state = effects, state

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The state of this world inside the block; outside, everything is as it was."""
        outside = self._effects.read()
        self._effects.write(self.state)
        try:
            yield
        finally:
            self.state = self._effects.read()
            self._effects.write(outside)
