"""The modules and vectors of a network; torch's own walks take several milliseconds of each run on a large one."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def modules(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """All modules, once each."""
    waiting, seen = [network], {id(network)}
    while waiting:
        module = waiting.pop()
        yield module
        for one in module._modules.values():
            if one is not None and id(one) not in seen:
                seen.add(id(one))
                waiting.append(one)


def vectors(network: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The one-dimensional parameters by name, once each and in torch's order."""
    waiting, seen = [("", network)], set()
    while waiting:
        prefix, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        for name, weight in module._parameters.items():
            if weight is not None and weight.ndim == 1 and id(weight) not in seen:
                seen.add(id(weight))
                yield prefix + name, weight
        if module._modules:
            waiting += [(f"{prefix}{name}.", one) for name, one in reversed(module._modules.items()) if one is not None]
