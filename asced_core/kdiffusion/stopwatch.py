"""Measures time on the run's device without a device sync."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Accumulates the time of named spans; CUDA events that are read at the end, or the CPU clock elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._clock: dict[str, float] = {}
        self._events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {}

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Adds the time inside the block to ``name``, even if the block raises."""
        if self._cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            try:
                yield
            finally:
                end.record()
                self._events.setdefault(name, []).append((begin, end))
            return
        start = time.perf_counter()
        try:
            yield
        finally:
            self._clock[name] = self._clock.get(name, 0.0) + time.perf_counter() - start

    def seconds(self, name: str) -> float:
        """Seconds spent in ``name`` so far; one device sync on CUDA."""
        events = self._events.get(name, [])
        if events:
            events[-1][1].synchronize()
        return self._clock.get(name, 0.0) + sum(a.elapsed_time(b) for a, b in events) / 1000
