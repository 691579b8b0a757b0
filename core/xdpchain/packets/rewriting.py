# SPDX-License-Identifier: Apache-2.0
"""What a chain did to a packet's bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

__all__ = ["Rewriting", "compare"]


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
    """How ``after`` came from ``before``. Where the length changed, that was at the head or at the tail,
    whichever explains more bytes; both at once are not told apart.
    """
    grown = len(after) - len(before)
    if not grown:
        return Rewriting(_ranges(before, after, 0))
    head = Rewriting(_ranges(before, after, grown), head=grown)
    tail = Rewriting(_ranges(before, after, 0), tail=grown)
    return head if head.count < tail.count else tail


def _ranges(before: bytes, after: bytes, shift: int) -> tuple[tuple[int, int], ...]:
    """Runs of offsets in ``after`` that differ from those ``shift`` bytes earlier in ``before``."""
    offsets = range(max(0, shift), min(len(after), len(before) + shift))
    odd = [at for at in offsets if after[at] != before[at - shift]]
    runs = (list(run) for _, run in groupby(enumerate(odd), lambda pair: pair[1] - pair[0]))
    return tuple((run[0][1], run[-1][1]) for run in runs)
