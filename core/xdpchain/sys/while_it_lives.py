# SPDX-License-Identifier: Apache-2.0
"""What was read of the kernel's objects, by ID, kept for as long as these exist.

A survey reads those of all chains again and again, each edit makes new ones, and a program that runs for
months must not keep what was read of those that are gone. The kernel does not use an ID twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar, TypeVarTuple, Unpack

from . import bpf

__all__ = ["KeptById", "while_it_lives"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LEAST_ROOM = 128


class KeptById:
    """One value for each object, which follows from its ID and a ``key``. ``opened`` opens an object, and
    raises BpfError if it is gone.
    """

    def __init__(self, opened: Callable[[int], bpf.Fd]) -> None:
        self._opened = opened
        self._known: dict[int, tuple[Hashable, Any]] = {}
        self._room = 0

    def of(self, object_id: int, key: Hashable, read: Callable[[], T]) -> T:
        """The value kept with this key, or what ``read`` returns, which replaces one with another key."""
        known = self._known.get(object_id)
        if known is not None and known[0] == key:
            found: T = known[1]
            return found
        found = read()
        self.keep(object_id, key, found)
        return found

    def keep(self, object_id: int, key: Hashable, value: object) -> None:
        if object_id not in self._known and len(self._known) >= max(LEAST_ROOM, self._room):
            self._forget()
        self._known[object_id] = key, value

    def _forget(self) -> None:
        """Discard values of objects that are gone. The next time is when there are twice as many as now."""
        for object_id in list(self._known):
            try:
                self._opened(object_id).close()
            except bpf.BpfError:
                self._known.pop(object_id, None)
        self._room = 2 * len(self._known)


def while_it_lives(
    opened: Callable[[int], bpf.Fd],
) -> Callable[[Callable[[int, Unpack[Ts]], T]], Callable[[int, Unpack[Ts]], T]]:
    """Keep what a function returns for an object, given by its ID, and for its other arguments the last time,
    while the object exists.
    """

    def keeping(read: Callable[[int, Unpack[Ts]], T]) -> Callable[[int, Unpack[Ts]], T]:
        kept = KeptById(opened)

        @wraps(read)
        def known(object_id: int, *more: *Ts) -> T:
            return kept.of(object_id, more, lambda: read(object_id, *more))

        return known

    return keeping
