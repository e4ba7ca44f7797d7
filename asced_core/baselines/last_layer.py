"""A network's last layer, looked into from outside: its features, a change of its answer, a gradient at it.

What stands behind it must be affine and mix no values: scaling, reordering, cropping. That is so in U-Nets, whose last
convolution answers the prediction, and in transformers, whose last linear layer answers patches of it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

KINDS = (nn.Conv2d, nn.Linear)
Layer = nn.Conv2d | nn.Linear


def find_last_layer(network: nn.Module, call: Callable[[], object]) -> Layer:
    """The convolution or linear layer that runs last.

    Args:
        network: any module.
        call: runs it once.

    Raises:
        ValueError: none of its layers ran.
    """
    last: list[Layer] = []

    def note(module: nn.Module, *_: object) -> None:
        last[:] = [module]  # type: ignore[list-item]  # KINDS alone are hooked

    handles = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, KINDS)]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise ValueError(
            f"No ordinary convolution or linear layer of {type(network).__name__} ran: take a model that torch runs, "
            "neither quantised nor compiled."
        )
    return last[0]


class LastLayerTap:
    """Listens at a layer inside of a ``with`` block.

    Attributes:
        layer: it.
        features: what the layer took, one tensor for each of its runs since ``clear``.
        answers: what it gave, likewise; leaves of a graph of their own where ``differentiable``.
        offsets: added to its answers, one for each run since ``clear``; empty for none.
        differentiable: from the layer on, torch records how the answer is used.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.features: list[Tensor] = []
        self.answers: list[Tensor] = []
        self.offsets: list[Tensor] = []
        self.differentiable = False
        self._handle: Any = None

    def __enter__(self) -> LastLayerTap:
        self._handle = self.layer.register_forward_hook(self._on_run)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._handle.remove()
        self.clear()

    def clear(self) -> None:
        """Forgets the runs up to now, and what was to be added."""
        self.features, self.answers, self.offsets = [], [], []

    def _on_run(self, _: nn.Module, taken: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        run = len(self.features)
        self.features.append(taken[0].detach())
        if run < len(self.offsets):
            answer = answer + self.offsets[run].to(answer)
        if self.differentiable:
            answer = answer.detach().clone()
            torch.set_grad_enabled(True)  # up to the end of the caller's no_grad block: what is before costs no graph
            answer.requires_grad_()
        self.answers.append(answer)
        return answer
