"""What a WebUI remembers between two model calls, so that a call it does not make itself leaves no trace."""

from __future__ import annotations

from typing import Any

import torch

from ...kdiffusion import GlobalGenerators


class Generators:
    """The global random generators, and those of the images.

    Args:
        device: of the run.
        rng: the WebUI's ``p.rng``: samplers take their noise from it, and each image has a generator of its own there.
    """

    def __init__(self, device: torch.device, rng: Any) -> None:
        self._globals, self._rng = GlobalGenerators(device), rng

    def read(self) -> tuple[Any, Any]:
        """The state of each generator; copies a few kilobytes for each image."""
        own = getattr(self._rng, "generators", None)
        if own is None:
            return self._globals.read(), None
        return self._globals.read(), (self._rng.is_first, list(own), [_state(one) for one in own])

    def write(self, state: tuple[Any, Any]) -> None:
        """Puts back a state that ``read`` returned."""
        of_globals, of_images = state
        self._globals.write(of_globals)
        if of_images is not None:
            self._rng.is_first, own, states = of_images
            self._rng.generators = list(own)
            for one, known in zip(own, states, strict=True):
                _put_back(one, known)

    def adopt(self, state: tuple[Any, Any]) -> None:
        """Does nothing: there is nothing else."""


class Memory:
    """All generators, and the number of model calls so far: the WebUI edits prompts and switches to a refiner by it.

    Args:
        generators: of the run.
        denoiser: the WebUI's ``model_wrap_cfg``.
    """

    def __init__(self, generators: Generators, denoiser: Any) -> None:
        self._generators, self._denoiser = generators, denoiser

    def read(self) -> tuple[Any, Any]:
        """The state now."""
        return self._generators.read(), getattr(self._denoiser, "step", None)

    def write(self, state: tuple[Any, Any]) -> None:
        """Puts back a state that ``read`` returned."""
        self._generators.write(state[0])
        self.adopt(state)

    def adopt(self, state: tuple[Any, Any]) -> None:
        """Puts back the number of calls."""
        if state[1] is not None:
            self._denoiser.step = state[1]


def _state(generator: Any) -> Any:
    """Of a generator of torch, or of the WebUI's own, which imitates that of a GPU and only counts."""
    return generator.get_state() if isinstance(generator, torch.Generator) else dict(vars(generator))


def _put_back(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    else:
        vars(generator).update(state)
