"""A second run of a sampler function, in step with the first run and sharing its model calls.

Samplers keep their history in local variables: earlier predictions, intermediate states. A corrected state therefore
cannot be injected into a running sampler, and restarting the sampler would lose the history of the other images. So
the corrected images get their own run from T_c on, while the first run continues for all others; each model call
serves both. Samplers work cell by cell, so the images do not mix.

The second run lives in a thread, but the two never run at the same time: the thread blocks at each model call, and
only the first run's thread calls the model.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .noise_tape import Replay
from .side_effects import GlobalGenerators, SideEffects, World


class _Cancelled(BaseException):
    pass


@dataclass(frozen=True)
class Asked:
    """A model call, before it is answered."""

    x: Tensor
    sigma: Any
    args: tuple[Any, ...]
    options: dict[str, Any]

    def of(self, model: Callable[..., Tensor]) -> Tensor:
        """The answer of a model."""
        return model(self.x, self.sigma, *self.args, **self.options)


class SecondRun:
    """The second run.

    Args:
        function: the sampler function.
        model: the first run's model; only its attributes are used, it is never called from here.
        x: corrected state [B,C,…,H,W].
        sigmas: remaining noise levels; pass a copy, because some samplers write into them.
        options: further keyword arguments of the function.
        replay: the first run's noise; None lets the function draw its own.
        effects: what the function may change besides its own variables; the second run has its own state of it.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        options: dict[str, Any],
        replay: Replay | None = None,
        effects: SideEffects | None = None,
    ) -> None:
        self._to_run: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._from_run: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._reply: Any = None  # passed to the thread when it resumes
        self._result: Tensor | None = None
        self.replay = replay
        effects = effects or GlobalGenerators(x.device)
        self._world = World(effects, effects.read())
        asker = _Asker(model, self._ask)

        def on_step(_: dict[str, Any]) -> None:
            self._ask("step", None)

        same_thread_state = _thread_state(x.device)

        def work() -> None:
            try:
                with same_thread_state(), replay or ExitStack():
                    out = function(asker, x, sigmas, callback=on_step, disable=True, **options)
                self._from_run.put(("done", out))
            except _Cancelled:
                pass
            except BaseException as error:  # re-raised in the first run's thread
                self._from_run.put(("error", error))

        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(work,), name="ASCED corrected run", daemon=True)

    def _ask(self, kind: str, what: Any) -> Any:
        if self.replay is not None:
            self.replay.begun = True
        self._from_run.put((kind, what))
        answer = self._to_run.get()
        if answer is _Cancelled:
            raise _Cancelled
        return answer

    def _next(self) -> tuple[str, Any]:
        """Resumes the thread until its next event, in a world of its own."""
        with self._world.entered():
            if self._thread.ident is None:
                self._thread.start()
            else:
                self._to_run.put(self._reply)
            kind, what = self._from_run.get()
        self._reply = None
        if kind == "error":
            raise what
        if kind == "done":
            self._result = what
        return kind, what

    def first_step(self, model: Callable[[Asked], Tensor]) -> None:
        """Runs the first step up to its callback; its model calls are not shared with the first run."""
        while True:
            kind, what = self._next()
            if kind != "call":
                return
            self.answer(model(what))

    def asked(self) -> Asked | None:
        """The next model call of the second run; None if it has finished."""
        while self._result is None:
            kind, what = self._next()
            if kind == "call":
                return what
        return None

    def answer(self, denoised: Tensor) -> None:
        """Sets the result of the pending model call; the run continues with it at the next ``asked``."""
        self._reply = denoised

    def result(self, model: Callable[[Asked], Tensor]) -> Tensor:
        """The final state, called after the first run has finished; remaining model calls are made here."""
        while self._result is None:
            if asked := self.asked():
                self.answer(model(asked))
        return self._result

    def close(self) -> None:
        """Ends the thread, even in the middle of the run."""
        if self._thread.ident is not None:
            self._to_run.put(_Cancelled)
            self._thread.join()


def _thread_state(device: torch.device) -> Callable[[], Any]:
    """What torch keeps for each thread, as it is in this one: modes of autograd, current device and stream."""
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    @contextmanager
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(inference))
            if not inference:
                stack.enter_context(torch.set_grad_enabled(gradients))
            if stream is not None:
                torch.cuda.set_device(device)
                stack.enter_context(torch.cuda.stream(stream))
            yield

    return entered


class _Asker:
    """Replaces the model in the second run: forwards calls to the first run's thread."""

    def __init__(self, model: Any, ask: Callable[[str, Any], Tensor]) -> None:
        self._model, self._ask = model, ask

    def __call__(self, x: Tensor, sigma: Any, *args: Any, **options: Any) -> Tensor:
        return self._ask("call", Asked(x, sigma, args, options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
