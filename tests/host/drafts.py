"""What the tests of drafts share: a model that answers each row alone, one that counts its rows, stock runs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

WIDGETS: dict[str, Any] = {"steps": 8, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
NEAR = 2e-4  # share of the largest value that the size of the batch may change in the network's own answers
MODES = ("all", "one")


class _Around(nn.Module):
    """A function around a network; ComfyUI's own wrappers would make the model one that a pack has patched."""

    def __init__(self, network: nn.Module, wrapper: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.network, self.wrapper, self.dtype = network, wrapper, network.dtype

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.wrapper(self.network, *args, **kwargs)


def around(model: Any, wrapper: Callable[..., torch.Tensor]) -> Any:
    """The same model with ``wrapper(network, x, t, …)`` in place of its network."""
    import comfy.model_patcher

    base = copy.copy(model.model)
    base._modules = dict(base._modules)
    base.diffusion_model = _Around(model.model.diffusion_model, wrapper)
    return comfy.model_patcher.ModelPatcher(base, model.load_device, model.offload_device)


def counted(model: Any, rows: Counter[int]) -> Any:
    """The model that counts its calls by their rows. A list would be taken for the memory of a patch, and put back."""

    def count(network: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        rows[len(x)] += 1
        return network(x, *args, **kwargs)

    return around(model, count)


def computed(rows: Counter[int]) -> int:
    """Rows that a model has computed."""
    return sum(size * calls for size, calls in rows.items())


def row_by_row(model: Any) -> Any:
    """The model whose answers do not depend on the size of the batch, not even by rounding."""

    def each(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.cat([executor(*row_of((x, *args), n, len(x)), **row_of(kwargs, n, len(x))) for n in range(len(x))])

    return around(model, each)


def row_of(value: Any, place: int, size: int) -> Any:
    """One row of every tensor with ``size`` of them, in containers, too."""
    if isinstance(value, torch.Tensor):
        return value[place : place + 1] if value.ndim and len(value) == size else value
    if isinstance(value, dict):
        return {name: row_of(one, place, size) for name, one in value.items()}
    return type(value)(row_of(one, place, size) for one in value) if type(value) in (list, tuple) else value


def conditioning_row(conditioning: Any, place: int) -> Any:
    """CONDITIONING of which every tensor holds the row of one image alone."""
    return [
        [
            tensor[place % len(tensor)][None],
            {k: v[place % len(v)][None] if torch.is_tensor(v) else v for k, v in o.items()},
        ]
        for tensor, o in conditioning
    ]


def places_of(kept: str, first: int) -> list[int]:
    """Places of the finished drafts, from the node's output ``seeds`` and its first seed."""
    return [int(seed) - first for seed in kept.split(", ")]


def same(one: torch.Tensor, other: torch.Tensor, places: Sequence[int] | None = None) -> bool:
    """True if two latents differ by no more than the rounding of another size of the batch."""
    other = other if places is None else other[list(places)]
    return bool((one - other).abs().max() <= NEAR * other.abs().max())
