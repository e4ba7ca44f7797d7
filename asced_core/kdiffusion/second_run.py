"""A second run of a sampler's function, in step with the first one and fed by the same model calls.

Samplers keep what they need in local variables: former predictions, half-made states. A corrected state can
therefore not be put into a running sampler, and a sampler that is entered anew has forgotten its past. So the
corrected images get a run of their own from T_c on, while the first run goes on for all others; each model call
serves both. Samplers work cell by cell, so the images do not mix.

The second run lives in a thread, but the two never run at the same time: the thread waits wherever it asks for
the model, and the model is always called by the first run's thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Cancelled(BaseException):
    pass


class SecondRun:
    """The second run.

    Args:
        function: the sampler's function.
        model: the first run's model, for its attributes; it is never called from here.
        x: corrected state [B,C,…,H,W].
        sigmas: remaining noise levels; its own copy, some samplers write into them.
        options: further arguments of the function.
    """

    def __init__(self, function: Callable[..., Tensor], model: Any, x: Tensor, sigmas: Tensor, options: dict) -> None:
        self._to_run: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._from_run: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._reply: Any = None  # what it is told when it goes on
        self._result: Tensor | None = None
        asker = _Asker(model, self._ask)

        def on_step(_: dict[str, Any]) -> None:
            self._ask("step", None)

        # modes and the current device belong to a thread
        inference, device = torch.is_inference_mode_enabled(), x.device

        def work() -> None:
            try:
                if device.type == "cuda":
                    torch.cuda.set_device(device)
                with torch.inference_mode(inference):
                    out = function(asker, x, sigmas, callback=on_step, disable=True, **options)
                self._from_run.put(("done", out))
            except _Cancelled:
                pass
            except BaseException as error:  # it is raised again in the first run's thread
                self._from_run.put(("error", error))

        self._device = device
        self._thread = threading.Thread(target=work, name="ASCED corrected run", daemon=True)

    def _ask(self, kind: str, what: Any) -> Any:
        self._from_run.put((kind, what))
        answer = self._to_run.get()
        if answer is _Cancelled:
            raise _Cancelled
        return answer

    def _next(self) -> tuple[str, Any]:
        """Lets it go on up to its next word; whatever it draws of the global generators is put back."""
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
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

    def first_step(self, model: Callable[..., Tensor]) -> None:
        """Lets it run up to the end of the predictions of its first step; it calls the model alone for that."""
        while True:
            kind, what = self._next()
            if kind != "call":
                return
            x, args, kwargs = what
            self.answer(model(x, *args, **kwargs))

    def asked(self) -> tuple[Tensor, tuple, dict[str, Any]] | None:
        """What it asks the model about next: state and further arguments; None if it has ended."""
        while self._result is None:
            kind, what = self._next()
            if kind == "call":
                return what
        return None

    def answer(self, denoised: Tensor) -> None:
        """The model's answer to what was asked; it goes on with it when it is asked again."""
        self._reply = denoised

    def result(self, model: Callable[..., Tensor]) -> Tensor:
        """Its final state, when the first run has ended; a run that fell behind finishes with the model alone."""
        while self._result is None:
            if asked := self.asked():
                x, args, kwargs = asked
                self.answer(model(x, *args, **kwargs))
        return self._result

    def close(self) -> None:
        """Ends the thread, also in mid-run."""
        if self._thread.ident is not None:
            self._to_run.put(_Cancelled)
            self._thread.join()


class _Asker:
    """Stands for the model in the second run: asks the first run's thread."""

    def __init__(self, model: Any, ask: Callable[[str, Any], Tensor]) -> None:
        self._model, self._ask = model, ask

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._ask("call", (x, args, kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
