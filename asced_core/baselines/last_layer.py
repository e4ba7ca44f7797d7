"""Access to a network's last layer from outside: its input, an offset to its output, a gradient at its output.

Everything after that layer must be affine and must not mix values: scaling, reordering, cropping. This holds for
U-Nets, whose last convolution outputs the prediction, and for transformers, whose last linear layer outputs its
patches.
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
        call: runs the network once.

    Raises:
        ValueError: no such layer ran.
    """
    last: list[Layer] = []

    def note(module: nn.Module, *_: object) -> None:
        last[:] = [module]  # type: ignore[list-item]  # only KINDS are hooked

    handles = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, KINDS)]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise ValueError(
            f"No ordinary convolution or linear layer of {type(network).__name__} ran: use a PyTorch model that is "
            "neither quantized nor compiled."
        )
    return last[0]


class LastLayerTap:
    """Hooks a layer inside a ``with`` block.

    Attributes:
        layer: the hooked layer.
        features: the layer's inputs, one tensor per run since ``clear``.
        answers: its outputs, one per run since ``clear``; graph leaves if ``differentiable``.
        offsets: added to its outputs, one per run since ``clear``; empty adds nothing.
        differentiable: record the graph from the layer's output on, for a gradient with respect to it.
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
        """Drops the recorded runs and the offsets."""
        self.features, self.answers, self.offsets = [], [], []

    def _on_run(self, _: nn.Module, taken: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        run = len(self.features)
        self.features.append(taken[0].detach())
        if run < len(self.offsets):
            answer = answer + self.offsets[run].to(answer)
        if self.differentiable:
            answer = answer.detach().clone()
            torch.set_grad_enabled(True)  # until the caller's no_grad block ends: earlier layers record no graph
            answer.requires_grad_()
        self.answers.append(answer)
        return answer
