"""The demo network's answers, kept: a test compares runs, and most of their calls are the same to the last bit."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

KEPT_BYTES = 256 * 2**20  # the least recently used answers are dropped


def recalling(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method of a network that looks up what it has computed before: for the same bits, layout and weights."""
    answers: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()
    size = 0

    @functools.wraps(compute)
    def velocity(net: nn.Module, *inputs: Tensor) -> Tensor:
        nonlocal size
        key = _key(net, inputs)
        if key is None:
            return compute(net, *inputs)
        if key in answers:
            answers.move_to_end(key)
        else:
            # A clone as below, so that an answer has the same layout when it is computed and when it is looked up.
            answers[key] = compute(net, *inputs).clone()
            size += answers[key].nbytes
            while size > KEPT_BYTES:
                size -= answers.popitem(last=False)[1].nbytes
        return answers[key].clone()

    return velocity


def _key(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...] | None:
    """All that an answer depends on; None where it is computed in any case: on a GPU, with gradients, changed modules.

    Weights may be patched between two calls; a sum of each says whether they are the same. Layouts
    count, too: they decide the order of the sums, and so the last bits.
    """
    if torch.is_grad_enabled() or any(x.device.type != "cpu" or x.dtype == torch.bfloat16 for x in inputs):
        return None
    sums, layouts = [], []
    for module in net.modules():
        hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        if hooked or getattr(module, "weight_function", ()):
            return None
        weights = [weight for weight in module._parameters.values() if weight is not None]
        sums += [weight.sum(dtype=torch.float64) for weight in weights]
        layouts += [(weight.dtype, weight.stride()) for weight in weights]
    return _digest(torch.stack(sums)), *layouts, *((x.shape, x.stride(), x.dtype, _digest(x)) for x in inputs)


def _digest(x: Tensor) -> bytes:
    return hashlib.sha1(x.contiguous().numpy()).digest()
