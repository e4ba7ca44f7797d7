"""Visits everything that patches may remember something in, without running their code."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from .module_walk import modules

MOST = 5000  # objects that are visited
COPIED = 2**20  # elements up to which a tensor is copied, because it may be changed in place
ALL_COPIED = 2**24  # elements of all copies together
OWN = __name__.split(".nodes.")[0]  # this pack
# Objects of these belong to ComfyUI or to a library, and are more than the memory of a patch.
NOT_ENTERED = sys.stdlib_module_names | {"comfy", "torch", "numpy", "nodes", "execution", "server", "PIL", OWN}
PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)
_MODULE = frozenset(vars(torch.nn.Module()))  # attributes of every torch module
_GENERATORS: tuple[tuple[type, Callable[[Any], Any], Callable[[Any, Any], None]], ...] = (
    (torch.Generator, lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    (random.Random, lambda g: g.getstate(), lambda g, state: g.setstate(state)),
    (np.random.RandomState, lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    (np.random.Generator, lambda g: g.bit_generator.state, lambda g, state: setattr(g.bit_generator, "state", state)),
)
State = dict[Any, tuple[Any, Any, Any]]  # by place: the object, what it held, and how to put it back


def differs(a: Any, b: Any) -> bool:
    """True if two held states differ: by value for plain values and tensors, by identity for everything else."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() != b.keys() or any(_value_differs(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) != len(b) or any(map(_value_differs, a, b))
    return _value_differs(a, b)


def _value_differs(a: Any, b: Any) -> bool:
    if a is b:
        return False
    if torch.is_tensor(a) and torch.is_tensor(b):
        return a.shape != b.shape or not torch.equal(a, b)
    return not (type(a) is type(b) and isinstance(a, PLAIN) and a == b)


class Walk:
    """Visits what can be reached, and notes what may change.

    Attributes:
        state: what was noted.
    """

    def __init__(self, roots: list[Any]) -> None:
        self.state: State = {}
        self._seen: set[int] = set()
        self._copied = 0
        self._held: list[Any] = []  # temporary objects must live as long as their ids are remembered
        for root in roots:
            self._look_into(root)

    def _look_into(self, root: Any) -> None:
        """Visits the patches in ComfyUI's own containers, which are not memory themselves."""
        if isinstance(root, dict):
            for value in list(root.values()):
                self._look_into(value)
        elif isinstance(root, (list, tuple)):
            for value in list(root):
                self._look_into(value)
        elif isinstance(root, torch.nn.Module):  # ComfyUI's network: what patches have hung on to it
            for value in self._attributes(root):
                self._visit(value)
            for module in modules(root):
                if module._forward_hooks or module._forward_pre_hooks:
                    for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
                        self._visit(hook)
        else:
            self._visit(root)

    def _note(self, kind: str, owner: Any, held: Any, put: Callable[[Any, Any], None], name: str = "") -> None:
        self.state[kind, id(owner), name] = (owner, held, put)

    def _visit(self, root: Any) -> None:
        waiting = [root]
        while waiting and len(self._seen) < MOST:
            thing = waiting.pop()
            if isinstance(thing, (*PLAIN, ModuleType, BuiltinFunctionType)) or id(thing) in self._seen:
                continue
            self._seen.add(id(thing))
            self._held.append(thing)
            waiting += self._children(thing)

    def _children(self, thing: Any) -> Iterator[Any]:
        for kind, read, put in _GENERATORS:
            if isinstance(thing, kind):
                self._note("generator", thing, read(thing), put)
                return
        if isinstance(thing, torch.Tensor):
            self._tensor(thing)
        elif isinstance(thing, FunctionType):
            yield from self._function(thing)
        elif isinstance(thing, MethodType):
            yield from (thing.__self__, thing.__func__)
        elif isinstance(thing, partial):
            yield from (thing.func, *thing.args, *thing.keywords.values())
        elif type(thing) in (dict, OrderedDict, defaultdict):
            self._note("container", thing, dict(thing), _refill_dict)
            yield from list(thing.values())
        elif type(thing) in (list, deque):
            self._note("container", thing, list(thing), _refill_list)
            yield from list(thing)
        elif type(thing) is set:
            self._note("container", thing, list(thing), _refill_set)
        elif isinstance(thing, tuple):
            yield from thing
        elif isinstance(thing, type):
            yield from self._class(thing)
        elif type(thing) is SimpleNamespace or _package(type(thing)) not in NOT_ENTERED:
            yield from self._object(thing)

    def _tensor(self, tensor: torch.Tensor) -> None:
        small = tensor.numel() <= min(COPIED, ALL_COPIED - self._copied)
        if small and not tensor.requires_grad and type(tensor) is torch.Tensor:
            self._copied += tensor.numel()
            self._note("tensor", tensor, tensor.clone(), lambda t, held: t.copy_(held))

    def _function(self, function: FunctionType) -> Iterator[Any]:
        if _top(function.__module__) in NOT_ENTERED:
            return
        for cell in function.__closure__ or ():
            yield from self._cell(cell)
        yield from (function.__defaults__ or ())
        yield from (function.__kwdefaults__ or {}).values()
        if function.__dict__:
            self._note("container", function.__dict__, dict(function.__dict__), _refill_dict)
            yield from list(function.__dict__.values())
        for name in _names(function.__code__):
            if name in function.__globals__:
                value = function.__globals__[name]
                if isinstance(value, PLAIN) or torch.is_tensor(value):
                    self._note("global", function.__globals__, value, partial(_put_item, name), name)
                yield value

    def _cell(self, cell: CellType) -> Iterator[Any]:
        try:
            held = cell.cell_contents
        except ValueError:  # still empty
            return
        self._note("cell", cell, held, lambda c, value: setattr(c, "cell_contents", value))
        yield held

    def _attributes(self, thing: Any) -> list[Any]:
        own = getattr(thing, "__dict__", None)
        if not isinstance(own, dict):
            return []
        names = [name for name in own if not (isinstance(thing, torch.nn.Module) and name in _MODULE)]
        self._note("object", own, {name: own[name] for name in names}, partial(_put_items, frozenset(own)))
        return [own[name] for name in names]

    def _object(self, thing: Any) -> Iterator[Any]:
        yield from self._attributes(thing)
        for kind in type(thing).__mro__:
            for name in _slots(kind):
                if hasattr(thing, name):
                    self._note("slot", thing, getattr(thing, name), partial(_put_attribute, name), name)
                    yield getattr(thing, name)
        yield type(thing)
        yield from (f for f in map(vars(type(thing)).get, ("__call__", "forward")) if isinstance(f, FunctionType))

    def _class(self, kind: type) -> Iterator[Any]:
        if _package(kind) in NOT_ENTERED:
            return
        for name, value in list(vars(kind).items()):
            if not name.startswith("__") and isinstance(value, (*PLAIN, torch.Tensor, list, dict, set, deque)):
                if isinstance(value, PLAIN):
                    self._note("class", kind, value, partial(_put_attribute, name), name)
                yield value


def _top(module: str | None) -> str:
    return OWN if module and module.startswith(OWN) else (module or "").split(".")[0]


def _package(kind: type) -> str:
    return _top(getattr(kind, "__module__", ""))


def _names(code: CodeType) -> Iterator[str]:
    """Global names that a function uses, those in its inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _refill_dict(own: dict[Any, Any], held: dict[Any, Any]) -> None:
    if differs(dict(own), held):
        own.clear()
        own.update(held)


def _refill_list(own: Any, held: list[Any]) -> None:
    if differs(list(own), held):
        own.clear()
        own.extend(held)


def _refill_set(own: set[Any], held: list[Any]) -> None:
    if own != set(held):
        own.clear()
        own.update(held)


def _put_item(name: str, own: dict[str, Any], held: Any) -> None:
    own[name] = held


def _put_items(known: frozenset[str], own: dict[str, Any], held: dict[str, Any]) -> None:
    """Puts back attributes, and removes those that are new."""
    for name in [name for name in own if name not in known]:
        del own[name]
    own.update(held)


def _put_attribute(name: str, owner: Any, held: Any) -> None:
    setattr(owner, name, held)
