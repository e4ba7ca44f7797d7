"""The known ways to combine a model's outputs, and which of them a pipeline uses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DECIMALS = range(4)  # of a guidance scale that is read off the outputs


def _as_it_is(guided: Tensor, _conditional: Tensor) -> Tensor:
    return guided


def _same_norm(guided: Tensor, conditional: Tensor) -> Tensor:
    """The norm of the conditional output along the last axis (Qwen-Image, Lumina 2)."""
    norms = (torch.norm(each, dim=-1, keepdim=True) for each in (conditional, guided))
    wanted, has = norms
    return guided * (wanted / has)


def _rescale(share: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Guidance rescale (arXiv 2305.08891, Sec. 3.4)."""

    def rescaled(guided: Tensor, conditional: Tensor) -> Tensor:
        axes = list(range(1, guided.ndim))
        wanted, has = conditional.std(dim=axes, keepdim=True), guided.std(dim=axes, keepdim=True)
        return share * (guided * (wanted / has)) + (1 - share) * guided

    return rescaled


@dataclass(frozen=True)
class Guidance:
    """One way to combine outputs.

    Attributes:
        length: of the result, along the axis after the batch; a variance, or the tokens of other images, may follow.
        dtype: of the result.
        widen_first: the outputs are converted before they are combined, not after.
        sign: -1 if the pipeline turns the result around.
        order: places of the unconditional and the conditional output; both are the same without guidance.
        from_conditional: ``c + scale (c - u)``, not ``u + scale (c - u)``.
        scale: of the guidance.
        finish: what follows, from the guided and the conditional output.
    """

    length: int
    dtype: torch.dtype
    widen_first: bool = False
    sign: int = 1
    order: tuple[int, int] = (0, 0)
    from_conditional: bool = False
    scale: float = 0.0
    finish: Callable[[Tensor, Tensor], Tensor] = _as_it_is

    def __call__(self, parts: list[Tensor]) -> Tensor:
        """The guided output of the parts [B,C,…]."""
        u, c = (self.part(parts[place]) for place in self.order)
        if self.order[0] == self.order[1]:
            guided = c
        else:
            guided = self.finish((c if self.from_conditional else u) + self.scale * (c - u), c)
        return (guided if self.sign == 1 else -guided).to(self.dtype)

    def part(self, output: Tensor) -> Tensor:
        """One output as it is combined."""
        part = output[:, : self.length]
        return part.to(self.dtype) if self.widen_first else part


def recognized(parts: list[Tensor], guided: Tensor, pipe: Any) -> Guidance | None:
    """The guidance that makes the guided output of the parts, bit for bit; None if no known one does."""
    for guidance in _candidates(parts, guided, pipe):
        made = guidance(parts)
        if made.shape == guided.shape and torch.equal(made, guided):
            return guidance
    return None


def _candidates(parts: list[Tensor], guided: Tensor, pipe: Any) -> Iterator[Guidance]:
    if len(parts) not in (1, 2):
        return
    orders = [(0, 0)] if len(parts) == 1 else [(0, 1), (1, 0)]
    wide = [False] if parts[0].dtype == guided.dtype else [True, False]
    for widen, sign, order in itertools.product(wide, (1, -1), orders):
        plain = Guidance(guided.shape[1], guided.dtype, widen, sign, order)
        if len(parts) == 1:
            yield plain
            continue
        for finish in (_as_it_is, _same_norm, *map(_rescale, _held(pipe, "guidance_rescale"))):
            suggested = _scales(plain.part(parts[order[0]]), plain.part(parts[order[1]]), guided)
            for scale in dict.fromkeys((*_held(pipe, "guidance_scale"), *suggested)):
                yield Guidance(guided.shape[1], guided.dtype, widen, sign, order, False, scale, finish)
                yield Guidance(guided.shape[1], guided.dtype, widen, sign, order, True, scale - 1, finish)


def _scales(u: Tensor, c: Tensor, guided: Tensor) -> list[float]:
    """Guidance scales that the outputs suggest, rounded as a user would enter them.

    Along one row, the result is ``r (u + g (c - u))``, where r is what a rescaling made of it.
    """
    rows = [each.detach().flatten(0, -2) for each in (u, c, guided)]
    if len({row.shape for row in rows}) > 1:
        return []
    row = (rows[1] - rows[0]).float().norm(dim=1).argmax()
    first, second, result = (each[row].double().cpu() for each in rows)
    a, b = torch.linalg.lstsq(torch.stack([first, second], 1), result[:, None]).solution.flatten().tolist()
    scale = b / (a + b) if a + b else math.nan
    return list(dict.fromkeys(round(scale, n) for n in DECIMALS)) if math.isfinite(scale) else []


def _held(pipe: Any, name: str) -> list[float]:
    """What a pipeline and its guider hold as guidance scale, or as the share of guidance rescale."""
    held = [getattr(owner, name, None) for owner in (pipe, getattr(pipe, "guider", None))]
    return [value for value in held if isinstance(value, int | float) and value > 0]
