"""Records the noise that a sampler's function draws, so that a second run draws the same.

Nothing is known of the function: neither where its noise comes from nor whether it draws any. While the first run is
in the sampler's own code, every random function of torch returns what it would have returned, and its result is noted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode

_FUNCTIONS = ("rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal", "bernoulli",
              "multinomial", "poisson")  # fmt: skip
_METHODS = ("normal_", "uniform_", "bernoulli_", "exponential_", "cauchy_", "log_normal_", "geometric_", "random_",
            "bernoulli", "multinomial")  # fmt: skip
RANDOM = frozenset([getattr(torch, f) for f in _FUNCTIONS] + [getattr(Tensor, m) for m in _METHODS])

Source = Callable[..., Tensor]
FEW = 3  # a function that starts a new stream of numbers in this many steps does so in every step


@dataclass(frozen=True)
class _Drawn:
    """One draw: what was called, on which stream of numbers, and what it returned."""

    function: Any
    stream: int | None  # seed of the generator; None is a global one
    noise: Tensor

    def is_like(self, other: _Drawn) -> bool:
        ours, theirs = self.noise, other.noise
        return (self.function, self.stream) == (other.function, other.stream) and (
            (ours.shape, ours.dtype, ours.device) == (theirs.shape, theirs.dtype, theirs.device)
        )


def _drawn(function: Any, noise: Tensor, options: dict[str, Any]) -> _Drawn:
    generator = options.get("generator")
    return _Drawn(function, None if generator is None else generator.initial_seed(), noise)


class NoiseTape(TorchFunctionMode):
    """Records what the first run draws; use it as a context around the sampler's function.

    Attributes:
        position: number of draws since the last step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._step, self._paused = 0, 0
        self._streams: set[Any] = set()
        self._noisy: set[int] = set()  # steps with a draw
        self._new: set[int] = set()  # steps in which a stream of numbers was new
        self._since_step: list[_Drawn] = []
        self._tape: deque[_Drawn] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in RANDOM and not self._paused:
            self._note(_drawn(func, out.clone(), kwargs))
        return out

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the mode off inside the block: a model then runs, and compiles, as it would without it."""
        on_top = _get_current_function_mode() is self
        if on_top:
            self.__exit__(None, None, None)
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
            if on_top:
                self.__enter__()

    def source(self, source: Source) -> Source:
        """A noise source with the same values, recorded as a whole."""

        def recorded(*args: Any, **kwargs: Any) -> Tensor:
            with self.paused():
                noise = source(*args, **kwargs)
            self._note(_Drawn(source, None, noise.clone()))
            return noise

        return recorded

    def _note(self, drawn: _Drawn) -> None:
        stream = drawn.function if drawn.stream is None else drawn.stream
        self._noisy.add(self._step)
        if stream not in self._streams:
            self._streams.add(stream)
            self._new.add(self._step)
        self._since_step.append(drawn)
        if self._tape is not None:
            self._tape.append(drawn)

    @property
    def position(self) -> int:
        return len(self._since_step)

    def next_step(self) -> None:
        """Marks the end of a step; only the draws of the current step are kept until there is a second run."""
        self._step += 1
        self._since_step.clear()

    @property
    def replayable(self) -> bool:
        """False if the function seeds its numbers anew at each step or each noise level, as a Brownian tree does.

        Their order then says nothing about which of them a second run needs.
        """
        return len(self._new) < FEW and not len(self._new) == len(self._noisy) > 1

    def stop(self) -> None:
        """Ends the recording; there is no second run any more."""
        self._tape = None

    def replay(self, since: int) -> Replay:
        """What a second run draws.

        Args:
            since: position in the current step from which on its draws are repeated.
        """
        self._tape = deque(self._since_step[since:])
        return Replay(self._tape)


class Replay(TorchFunctionMode):
    """Repeats the first run's draws in a second run, which draws by itself where there is nothing to repeat.

    Attributes:
        begun: False while the second run is still before its first model call; it then draws by itself.
        missed: number of draws that had nothing to repeat.
    """

    def __init__(self, tape: deque[_Drawn]) -> None:
        super().__init__()
        self._tape = tape
        self.begun = False
        self.missed = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func not in RANDOM or not self.begun:
            return out
        noise = self._next(_drawn(func, out, kwargs))
        if noise is None:
            return out
        in_place = out is kwargs.get("out") or (bool(args) and out is args[0])
        return out.copy_(noise) if in_place else noise

    def source(self, source: Source, like: Tensor) -> Source:
        """The second run's part of a noise source that the first run recorded; the source itself is never called.

        Args:
            source: as given to ``NoiseTape.source``.
            like: the state, for noise that there is nothing to repeat of.
        """

        def repeated(*_: Any, **__: Any) -> Tensor:
            if self._tape and self._tape[0].function is source:
                return self._tape.popleft().noise
            self.missed += 1
            return torch.randn_like(like)

        return repeated

    def _next(self, drawn: _Drawn) -> Tensor | None:
        if self._tape and self._tape[0].is_like(drawn):
            return self._tape.popleft().noise
        self.missed += 1
        return None
