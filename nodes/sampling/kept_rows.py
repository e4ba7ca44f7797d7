"""Model calls for part of a batch: the sampler goes on with the whole batch, the network sees the kept images alone.

The rows are taken out where ComfyUI calls the network, after it has brought conditioning, masks and ControlNet hints to
the size of the batch. So each image keeps its own row of all of them, whoever made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...asced_core.kdiffusion import Asked
from .control import Controls, for_rows
from .network import around_network

OF_THE_RUN = ("sample_sigmas",)  # a number for each step, of which there may be as many as rows


class KeptRows:
    """Answers the calls of a sampler for some images of the batch.

    Args:
        model: the sampler's model.
        kept: places of these images in the batch.
        instead: [B,C,…,H,W], the answer for the other images.
    """

    def __init__(self, model: Any, kept: Sequence[int], instead: torch.Tensor) -> None:
        self._model, self._instead, self._size = model, instead, len(instead)
        self._places = torch.tensor(list(kept), device=instead.device)
        flags = torch.zeros(self._size, dtype=torch.bool, device=instead.device)
        self._controls = Controls(lambda control: for_rows(control, self._select, self._spread))
        self._kept = flags.index_fill(0, self._places, True).view(-1, *[1] * (instead.ndim - 1))

    def __call__(self, asked: Asked) -> torch.Tensor:
        """The prediction [B,C,…,H,W]; a call with another number of rows is made as it is."""
        if len(asked.x) != self._size:
            return asked.of(self._model)
        answer = around_network(asked, self._network, self._controls).of(self._model)
        return torch.where(self._kept, answer, self._instead.to(answer.dtype))

    def agrees(self, asked: Asked, answer: torch.Tensor, tolerance: float) -> bool:
        """True if the kept images get the same answer without the others; one device sync.

        Args:
            asked: a call.
            answer: to this call for the whole batch.
            tolerance: mean difference in an image up to which two answers count as the same, as a share of the mean
                magnitude of the answer and of its change of the state. Early in a run the latter is the larger one, and
                so is its rounding.
        """
        x, old, new = (rows.index_select(0, self._places).flatten(1) for rows in (asked.x, answer, self(asked)))
        scale = (old.abs() + (x - old).abs()).nan_to_num(nan=0, posinf=0, neginf=0).mean(1)
        same = (new == old) | (new.isnan() & old.isnan())
        apart = (new - old).abs().masked_fill(same, 0).mean(1)
        return bool((apart <= tolerance * scale).all())

    def _network(self, executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Takes the place of ComfyUI's ``apply_model``; positive and negative conditioning follow each other in x."""
        size = len(x)
        part = executor(*self._select((x, *args), size), **self._select(kwargs, size))
        # the state itself for the other images: finite, and never looked at
        return part if len(part) == size else self._spread(part, size, x)

    def _rows(self, size: int) -> torch.Tensor:
        """The places of the kept images in ``size`` rows, in which the whole batch is repeated."""
        chunks = torch.arange(size // self._size, device=self._places.device)[:, None] * self._size
        return (chunks + self._places).flatten()

    def _select(self, value: Any, size: int) -> Any:
        return value if size % self._size else _rows_of(value, self._rows(size), size)

    def _spread(self, part: torch.Tensor, size: int, others: torch.Tensor | None = None) -> torch.Tensor:
        if size % self._size:
            return part
        whole = part.new_zeros(size, *part.shape[1:]) if others is None else others.to(part.dtype, copy=True)
        return whole.index_copy_(0, self._rows(size).to(part.device), part)


def _rows_of(value: Any, rows: torch.Tensor, size: int) -> Any:
    """The rows of every tensor with ``size`` of them, in containers, too."""
    if isinstance(value, torch.Tensor):
        return value[rows.to(value.device)] if value.ndim and len(value) == size else value
    if isinstance(value, dict):
        return {name: one if name in OF_THE_RUN else _rows_of(one, rows, size) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_rows_of(one, rows, size) for one in value)
    return value
