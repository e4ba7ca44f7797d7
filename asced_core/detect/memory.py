"""What a detector keeps of a window: its first prediction, one from its middle, and the last one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST = 8  # earlier predictions that are kept


class WindowMemory:
    """Takes the predictions of a window one by one; its memory does not grow with their number.

    If there are more than MOST, every other one is dropped, and from then on only every other one is kept.

    Args:
        shape: (B, C, H, W) of the predictions; None takes that of the first one.

    Attributes:
        seen: number of predictions so far.
    """

    def __init__(self, shape: Sequence[int] | None = None) -> None:
        self.shape, self.seen = shape, 0
        self._kept: list[Tensor] = []
        self._interval = 1
        self._last: Tensor | None = None

    def push(self, denoised: Tensor) -> None:
        """Takes the next prediction, any float dtype, or uint8 with -1 to 1 mapped to 0 to 255.

        Raises:
            ValueError: it has another shape.
        """
        self.shape = self.shape or tuple(denoised.shape)
        if tuple(denoised.shape) != tuple(self.shape):
            raise ValueError(f"Expected a prediction of shape {self.shape}, got {tuple(denoised.shape)}.")
        if self.seen % self._interval == 0:
            self._kept.append(denoised)
            if len(self._kept) > MOST:
                self._kept, self._interval = self._kept[::2], 2 * self._interval
        self._last = denoised
        self.seen += 1

    def three(self, image: int | None = None) -> tuple[Tensor, ...]:
        """The first, a middle and the last prediction, float32 [B,C,H,W] each.

        Args:
            image: only this one of the batch, B is 1; None is all of them.

        Raises:
            ValueError: nothing was pushed.
        """
        if self._last is None:
            raise ValueError("Detection needs at least one prediction in the window.")
        middle = self._kept[(self.seen - 1) // 2 // self._interval]
        chosen = slice(None) if image is None else slice(image, image + 1)
        return _as_floats(*(one[chosen] for one in (self._kept[0], middle, self._last)))


def _as_floats(*predictions: Tensor) -> tuple[Tensor, ...]:
    """In float32, [-1, 1]; only of those that are asked for, which on the CPU saves most of a detector's time."""
    if predictions[0].dtype == torch.uint8:
        return torch.stack(predictions).contiguous().float().div_(127.5).sub_(1).unbind()
    return tuple(one.float() for one in predictions)
