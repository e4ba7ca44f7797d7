"""A run that stops as a draft and can be finished later, for cards that hold one image at a time.

A sampler's function cannot be paused for good: it keeps its history in local variables. But it does the same again when
it is started from the same noise and the network answers the same. So a draft keeps the network's answers, and its run
is finished by replaying them; everything around the network, such as guidance, is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.model_management import InterruptProcessingException

from ...asced_core.kdiffusion import Asked
from .control import Controls, NoControl
from .network import around_network
from .patch_state import PatchState


class StoppedError(BaseException):
    """The draft is done; it ends the sampler's function, also one that handles the errors of a model."""


class DivergedError(BaseException):
    """The run asks for something else than its draft did, so it has to be computed from its start."""


class OneDraft:
    """The first part of one run.

    Args:
        chosen: True if not all drafts are finished, so that it is worth a call to compare them.

    Attributes:
        done: True once the draft is known; from then on, it is gone through again.
    """

    def __init__(self, chosen: bool = True) -> None:
        self.chosen = chosen
        self.done = False
        self._calls: list[list[torch.Tensor]] = []  # the network's answers in each call of the model
        self._next: torch.Tensor | None = None  # the state of the first call after the draft
        self._before: Any = None  # what the patches remembered at its start
        self._after: Any = None  # and at the first call after it

    @property
    def calls(self) -> int:
        """Model calls of the draft."""
        return len(self._calls)

    def forget(self) -> None:
        """Frees the answers: the run is finished, or is computed from its start after all."""
        self._calls, self._next, self._after = [], None, None

    def answering(self, model: Any, patches: PatchState) -> Callable[[Asked], torch.Tensor]:
        """What answers the calls of a run: records the draft, or goes through it again and then asks the network.

        Args:
            model: the sampler's model.
            patches: what its patches remember; a draft leaves it as it was.
        """
        return self._replayed(model, patches) if self.done else self._recorded(model, patches)

    def _recorded(self, model: Any, patches: PatchState) -> Callable[[Asked], torch.Tensor]:
        self._before = patches.read()

        def record(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            out: torch.Tensor = executor(*args, **kwargs)
            self._calls[-1].append(out.clone())  # a patch may change its own in place
            return out

        def answer(asked: Asked) -> torch.Tensor:
            if self.done:
                self._next, self._after = asked.x.cpu(), patches.read()
                self._calls = [[out.cpu() for out in call] for call in self._calls]
                patches.write(self._before)
                raise StoppedError
            self._calls.append([])
            return around_network(asked, record).of(model)

        return answer

    def _replayed(self, model: Any, patches: PatchState) -> Callable[[Asked], torch.Tensor]:
        position = 0
        silent = Controls(lambda _: NoControl())
        patches.write(self._before)  # the same start as that of the draft, whatever was finished in between

        def answer(asked: Asked) -> torch.Tensor:
            nonlocal position
            if position < len(self._calls):
                position += 1
                return _replay(asked, model, self._calls[position - 1], silent)
            if self._next is not None:
                same = torch.equal(self._next, asked.x.cpu())
                self._next = None
                if not same:
                    raise DivergedError
                patches.write(self._after)
            return asked.of(model)

        return answer


def _replay(asked: Asked, model: Any, outputs: list[torch.Tensor], controls: Controls) -> torch.Tensor:
    """The answer to a call of the draft; patches that need more of the network than its answer may fail."""
    try:
        return around_network(asked, _player(outputs), controls).of(model)
    except InterruptProcessingException:
        raise
    except Exception as error:
        raise DivergedError from error


def _player(outputs: list[torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Answers in place of the network, each call with the next of its recorded answers."""
    left = iter(outputs)

    def replay(_: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        out = next(left, None)
        if out is None or out.shape != x.shape:
            raise DivergedError
        return out.to(x.device, copy=True)

    return replay
