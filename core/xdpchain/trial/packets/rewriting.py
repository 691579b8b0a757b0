# SPDX-License-Identifier: Apache-2.0
"""What a chain did to a packet's bytes. Pure."""

from __future__ import annotations

from itertools import groupby
from operator import ne

from xdpchain.frozen import frozen

__all__ = ["Rewriting", "compare"]

HEADROOM = 64
"""Furthest that a packet's start is assumed to have moved, in bytes, if its end moved too: an IPv6 header and
some more.
"""


@frozen
class Rewriting:
    """``ranges``: (first, last) offsets in the output packet whose bytes differ. ``head``: bytes added before
    the packet (negative: removed); ``tail``: the same at its end.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    head: int = 0
    tail: int = 0

    def __bool__(self) -> bool:
        return bool(self.ranges or self.head or self.tail)

    @property
    def count(self) -> int:
        """The number of existing bytes that changed."""
        return sum(last - first + 1 for first, last in self.ranges)


def compare(before: bytes, after: bytes) -> Rewriting:
    """How ``before`` became ``after``: of all possible moves of its start and end, the one that leaves the
    fewest changed bytes.
    """
    grown = len(after) - len(before)
    head = 0 if not grown else min(_heads(grown), key=lambda head: _cost(before, after, head))
    return Rewriting(_ranges(before, after, head), head, grown - head)


def _heads(grown: int) -> list[int]:
    """Candidate sizes of an added head: nothing, the whole growth, or a small even number."""
    return [0, grown, *range(-HEADROOM, HEADROOM + 1, 2)]


def _cost(before: bytes, after: bytes, head: int) -> tuple[int, int]:
    """Changed bytes plus bytes added or removed at the ends, then the size of the head."""
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
