# SPDX-License-Identifier: Apache-2.0
"""The ways of packets through a chain as a graph: what each slot's return codes lead to, and which of these
ways have to be counted so that all are known. Pure.

What enters a slot leaves it, so not every way needs a counter (Ball and Larus, "Optimally profiling and
tracing programs", 1994). Here a way goes uncounted only where its number is the *sum* of others: it is the
only one into the next slot, or the only one out of its own. A difference would save a counter more where
several ways meet; but while packets are between two counters it could fall, and who reads it would take
that for a restart. The ways out of the chain are counted in most chains, and nothing else: one addition a
packet.

A sum of bytes is right only where the slot that is summed over leaves the packet's length as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from .actions import ALL_ACTIONS, Action
from .chain import Chain
from .counting import COUNTER, Layout, Terms, slot_key
from .counts import CODES
from .paths import RETURN, entry, successors
from .policy import Policy
from .routes import OTHER

__all__ = ["KINDS", "STRAIGHT", "UNREPLACED", "Way", "counted_ways", "kind_of", "ways_of"]

UNREPLACED = 31
"""The code that a stub of libxdp's dispatcher returns; every chain goes on after it."""

NEXT = CODES
KINDS = range(CODES + 1)
"""The return codes that may lead to different places: the actions, any other code (`routes.OTHER`), and 31.
"""

CACHE_LINE = 64


@dataclass(frozen=True, slots=True)
class Way:
    """Where a slot's return code of one kind leads: to the slot ``to``; to the end if that is the chain's
    length; or out of the chain (`paths.RETURN`). ``verdict`` is what the chain returns then, None for the
    code itself. ``forbidden``: the slot's policy reports it.
    """

    slot: int
    kind: int
    to: int
    verdict: Action | None = None
    forbidden: bool = False

    @property
    def code(self) -> int:
        """The place in a row of counts."""
        return min(self.kind, OTHER)


STRAIGHT = Way(-1, Action.PASS, 0, Action.PASS)
"""The way from the entry to the end, past slots that are all off; it comes out of none of them."""


def kind_of(code: int | None) -> Collection[int]:
    """The kinds of a return code of 32 bits; None: it may be any."""
    if code is None:
        return KINDS
    return (NEXT,) if code == UNREPLACED else (code if code in ALL_ACTIONS else OTHER,)


def ways_of(chain: Chain) -> dict[tuple[int, int], Way]:
    """All ways, by slot and kind; `STRAIGHT` is among them where no slot is on. Raises InvalidInput as
    `successors` does.
    """
    ways = {
        (index, kind): _way(chain, index, kind, row)
        for index, row in enumerate(successors(chain))
        for kind in KINDS
    }
    if entry(chain) == len(chain):
        ways[STRAIGHT.slot, STRAIGHT.kind] = replace(STRAIGHT, to=len(chain))
    return ways


def _way(chain: Chain, index: int, kind: int, row: Sequence[int]) -> Way:
    code = min(kind, OTHER)
    policy = chain.slots[index].policy
    forbidden = policy is not None and bool(policy.forbidden >> code & 1)
    answer = _answer(policy) if forbidden else None
    to = (
        entry(chain, index + 1)
        if kind == NEXT and answer is None
        else row[code if answer is None else answer]
    )
    if to == len(chain):
        return Way(index, kind, to, Action.PASS, forbidden)
    if to != RETURN:
        return Way(index, kind, to, None, forbidden)
    own = Action(kind) if kind in ALL_ACTIONS else None
    return Way(index, kind, to, own if answer is None else answer, forbidden)


def _answer(policy: Policy | None) -> Action | None:
    return policy.otherwise.action if policy is not None else None


def counted_ways(
    chain: Chain, possible: Sequence[Collection[int]], keeps_length: Sequence[bool]
) -> tuple[dict[tuple[int, int], int], Layout]:
    """Which ways have a counter, by slot and kind, and what these counters tell.

    ``possible`` are each slot's kinds of codes; ``keeps_length`` says which slots never change the packet's
    length.
    """
    ways = ways_of(chain)
    out: list[list[Way]] = [[] for _ in chain]
    into: list[list[Way]] = [[] for _ in chain]
    entered = [index == entry(chain) for index in range(len(chain) + 1)]
    if entered[-1]:
        out.append([ways[STRAIGHT.slot, STRAIGHT.kind]])
    for index in range(len(chain)):
        if entered[index]:
            out[index] = [ways[index, kind] for kind in sorted(possible[index])]
            for way in out[index]:
                if 0 <= way.to < len(chain):
                    into[way.to].append(way)
                    entered[way.to] = True
    counters: dict[tuple[int, int], int] = {}
    sums: dict[tuple[int, int], list[Way]] = {}
    for way in (way for some in reversed(out) for way in some):
        own, to = way.slot, way.to
        if 0 <= to < len(chain) and keeps_length[to] and len(into[to]) == 1:
            sums[own, way.kind] = out[to]
        # With several ways in, none of these is itself a sum of what goes out.
        elif len(out[own]) == 1 and keeps_length[own] and len(into[own]) > 1:
            sums[own, way.kind] = into[own]
        else:
            counters[own, way.kind] = 0
    counters = {key: index for index, key in enumerate(sorted(counters))}
    found: dict[tuple[int, int], tuple[int, ...]] = {}

    def terms(way: Way) -> tuple[int, ...]:
        key = way.slot, way.kind
        if key not in found:
            summed = sums.get(key)
            parts = [(counters[key],)] if summed is None else map(terms, summed)
            found[key] = tuple(sorted(index for part in parts for index in part))
        return found[key]

    slots = {slot_key(slot): _row((way.code, terms(way)) for way in out[i]) for i, slot in enumerate(chain)}
    ends = (way for some in out for way in some if not 0 <= way.to < len(chain))
    verdict = _row((way.code if way.verdict is None else way.verdict, terms(way)) for way in ends)
    stride = -(-max(1, len(counters)) * COUNTER // CACHE_LINE) * CACHE_LINE
    return counters, Layout(stride, slots, verdict)


def _row(found: Iterable[tuple[int, tuple[int, ...]]]) -> Terms:
    row: list[list[int]] = [[] for _ in range(CODES)]
    for code, indices in found:
        row[code] += indices
    return tuple(tuple(sorted(indices)) for indices in row)
