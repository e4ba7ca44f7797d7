"""What a detector keeps of a window: its first prediction, one from its middle, and the last one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

MOST = 8  # earlier predictions that are kept if it is not known how many come


class WindowMemory:
    """Takes the predictions of a window one by one; its memory does not grow with their number.

    Args:
        shape: (B, C, H, W) of the predictions; None takes that of the first one.
        asked: numbers of predictions after which ``three`` is asked for: nothing is kept but what it then returns.
            Empty if they are not known; then up to MOST are kept, evenly spaced.

    Attributes:
        seen: number of predictions so far.
    """

    def __init__(self, shape: Sequence[int] | None = None, asked: Collection[int] = ()) -> None:
        self.shape, self.seen = shape, 0
        self._wanted = {0, *map(_middle, asked)} if asked else None
        self._kept: dict[int, Tensor] = {}  # by place in the window
        self._last: Tensor | None = None

    def push(self, denoised: Tensor) -> None:
        """Takes the next prediction, any float dtype, or uint8 with -1 to 1 mapped to 0 to 255.

        Raises:
            ValueError: it has another shape.
        """
        self.shape = self.shape or tuple(denoised.shape)
        if tuple(denoised.shape) != tuple(self.shape):
            raise ValueError(f"Expected a prediction of shape {self.shape}, got {tuple(denoised.shape)}.")
        place, self._last = self.seen, denoised
        self.seen += 1
        if self._wanted is None:
            interval = _interval(self.seen)
            self._kept = {i: one for i, one in (self._kept | {place: denoised}).items() if i % interval == 0}
        elif place in self._wanted:
            self._kept[place] = denoised

    def three(self, part: slice = slice(None)) -> tuple[Tensor, ...]:
        """The first, a middle and the last prediction, float32 [B,C,H,W] each.

        Args:
            part: only these of the batch.

        Raises:
            ValueError: nothing was pushed.
        """
        if self._last is None:
            raise ValueError("Detection needs at least one prediction in the window.")
        middle = self._kept[max(place for place in self._kept if place <= _middle(self.seen))]
        return _as_floats(*(one[part] for one in (self._kept[0], middle, self._last)))


def _interval(count: int) -> int:
    """Of this many predictions, every how many-th is kept: a power of 2."""
    interval = 1
    while (count - 1) // interval >= MOST:
        interval *= 2
    return interval


def _middle(count: int) -> int:
    """The place of the middle one of this many, among those that are kept."""
    interval = _interval(count)
    return (count - 1) // 2 // interval * interval


def _as_floats(*predictions: Tensor) -> tuple[Tensor, ...]:
    """In float32, [-1, 1]; only of those that are asked for, which on the CPU saves most of a detector's time."""
    if predictions[0].dtype == torch.uint8:
        return torch.stack(predictions).contiguous().float().div_(127.5).sub_(1).unbind()
    return tuple(one.float() for one in predictions)
