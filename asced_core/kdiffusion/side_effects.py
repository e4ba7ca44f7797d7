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

    def adopt(self, state: Any) -> None:
        """The same for all but the global random generators."""
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

    def adopt(self, state: tuple[Any, ...]) -> None:
        """Does nothing: there is nothing else."""


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
    def entered(self, outside: Any = None) -> Iterator[None]:
        """The state of this world inside the block; outside, everything is as it was.

        Args:
            outside: the state now, or one that holds more; None reads it.
        """
        outside = self._effects.read() if outside is None else outside
        self._effects.write(self.state)
        try:
            yield
        finally:
            self.state = self._effects.read()
            self._effects.write(outside)
