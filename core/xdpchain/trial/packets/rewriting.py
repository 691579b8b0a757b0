# SPDX-License-Identifier: Apache-2.0
"""What a chain did to a packet's bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import ne

__all__ = ["Rewriting", "compare"]

HEADROOM = 64
"""Bytes by which a packet's beginning is believed to have moved where its end moved too: an IPv6 header and
some more.
"""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """``ranges`` are (first, last) offsets in the packet as it came out whose bytes differ. ``head`` is how
    many bytes were put before it (negative: taken off its head), ``tail`` the same for its end.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    head: int = 0
    tail: int = 0

    def __bool__(self) -> bool:
        return bool(self.ranges or self.head or self.tail)

    @property
    def count(self) -> int:
        """How many bytes differ that were there before."""
        return sum(last - first + 1 for first, last in self.ranges)


def compare(before: bytes, after: bytes) -> Rewriting:
    """How ``after`` came from ``before``: of all ways to have moved its beginning and its end, the one that
    leaves the fewest bytes to explain.
    """
    grown = len(after) - len(before)
    head = 0 if not grown else min(_heads(grown), key=lambda head: _cost(before, after, head))
    return Rewriting(_ranges(before, after, head), head, grown - head)


def _heads(grown: int) -> list[int]:
    """What may have been put before a packet: all of what it grew by, nothing, or some even number."""
    return [0, grown, *range(-HEADROOM, HEADROOM + 1, 2)]


def _cost(before: bytes, after: bytes, head: int) -> tuple[int, int]:
    """Bytes that neither moved nor stayed, then how much the ends moved."""
    moved = after[head:] if head > 0 else after
    was = before[-head:] if head < 0 else before
    odd = sum(map(ne, moved, was))
    tail = len(after) - len(before) - head
    return odd + abs(head) + abs(tail), abs(head)


def _ranges(before: bytes, after: bytes, shift: int) -> tuple[tuple[int, int], ...]:
    """Runs of offsets in ``after`` that differ from those ``shift`` bytes earlier in ``before``."""
    offsets = range(max(0, shift), min(len(after), len(before) + shift))
    odd = [at for at in offsets if after[at] != before[at - shift]]
    runs = (list(run) for _, run in groupby(enumerate(odd), lambda pair: pair[1] - pair[0]))
    return tuple((run[0][1], run[-1][1]) for run in runs)
