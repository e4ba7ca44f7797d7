"""Measures time on the run's device without a device sync."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Accumulates the time of named spans; CUDA events that are read at the end, or the CPU clock elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._clock: dict[str, float] = {}
        self._events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {}
        self._open: list[str] = []  # names of the open spans, the innermost last
        self._since: Any = None  # start of the innermost one, or end of the last one inside it

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Adds the time inside the block to ``name``, even if the block raises; spans inside it do not count twice."""
        self._lap()
        self._open.append(name)
        try:
            yield
        finally:
            self._lap()
            self._open.pop()

    def _lap(self) -> None:
        """Adds the time since the last lap to the innermost open span."""
        now: Any = time.perf_counter()
        if self._cuda:
            now = torch.cuda.Event(enable_timing=True)
            now.record()
        if self._open and self._cuda:
            self._events.setdefault(self._open[-1], []).append((self._since, now))
        elif self._open:
            self._clock[self._open[-1]] = self._clock.get(self._open[-1], 0.0) + now - self._since
        self._since = now

    def seconds(self, name: str) -> float:
        """Seconds spent in ``name`` so far; one device sync on CUDA."""
        events = self._events.get(name, [])
        if events:
            events[-1][1].synchronize()
        return self._clock.get(name, 0.0) + sum(a.elapsed_time(b) for a, b in events) / 1000
