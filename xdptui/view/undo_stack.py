# SPDX-License-Identifier: Apache-2.0
"""Undo and redo for frozen values. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

from xdpchain.frozen import frozen

__all__ = ["History"]

T = TypeVar("T")

DEPTH = 200
"""Steps remembered; older ones are forgotten."""


@frozen
class History(Generic[T]):
    """The present value, its predecessors, and what was undone."""

    present: T
    past: tuple[T, ...] = ()
    future: tuple[T, ...] = ()

    def push(self, value: T) -> History[T]:
        """``value`` becomes the present; discards what was undone. The same value is not a step."""
        if value == self.present:
            return self
        return History(value, (*self.past, self.present)[-DEPTH:])

    def undo(self) -> History[T]:
        """One step back; unchanged if there is none."""
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (self.present, *self.future))

    def redo(self) -> History[T]:
        """Redo one step; unchanged if there is none."""
        if not self.future:
            return self
        return History(self.future[0], (*self.past, self.present), self.future[1:])
