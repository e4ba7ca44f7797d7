"""Stands in front of a method of one object, for a while."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

Method = Callable[..., Any]
Visitor = Callable[[Method, tuple[Any, ...], dict[str, Any]], Any]


class Door:
    """Replaces a method on an instance; signature, class and config of the object stay what they are.

    Args:
        owner: the object.
        name: of its method.
        visitor: called as ``visitor(method, args, kwargs)`` in place of the method.
    """

    def __init__(self, owner: Any, name: str, visitor: Visitor) -> None:
        self._owner, self._name, self._visitor = owner, name, visitor
        self._before = vars(owner).get(name)  # another tool's replacement, if there is one
        self._method: Method = getattr(owner, name)
        functools.update_wrapper(self, self._method)  # pipelines look at the signature
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._visitor(self._method, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """What a copy of the owner gets instead: its own method, unwatched."""
        owner = memo.get(id(self._owner), self._owner)
        if self._before is not None:
            return copy.deepcopy(self._before, memo)
        return getattr(type(owner), self._name).__get__(owner)

    def close(self) -> None:
        """Puts back what was there."""
        method = self._method
        self._visitor = lambda _method, args, kwargs: method(*args, **kwargs)  # whoever kept the door passes through
        if vars(self._owner).get(self._name) is not self:
            return  # another tool came later, and puts back its own
        if self._before is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)


def is_watched(owner: Any) -> bool:
    """True if a door stands in front of one of the object's methods."""
    return any(isinstance(value, Door) for value in vars(owner).values())
