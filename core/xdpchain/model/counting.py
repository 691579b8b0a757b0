# SPDX-License-Identifier: Apache-2.0
"""Where a chain's counts lie, and what each counter stands for <-> JSON. Pure.

A program counts into a map that was laid out for it. Its predecessor's map stays as it is: packets may
still be on their way through that program when the swap is done, and one that was killed must lose nothing.
So the counts of a chain are a sum: over its own map, over those of programs before it, and over totals of
what was retired. A frozen description that hangs on the program (`Counting`) says which.

Every number is a sum of counters, never a difference (`Layout`), so that none can fall while packets flow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xdpchain.errors import InvalidInput

from .chain import Slot
from .counts import CODES, SlotCounts

__all__ = ["COUNTER", "Counting", "Layout", "Source", "Terms", "slot_key"]

FORMAT = 1
COUNTER = 16
"""Bytes of a counter: packets, then bytes, 64 bits each."""

MAX_STRIDE, MAX_SOURCES, MAX_SLOTS = 1 << 16, 64, 256

Terms = tuple[tuple[int, ...], ...]
"""For each return code (`counts.CODES`) the indices of the counters whose sum is the number of packets."""

SlotKey = tuple[str, bool]


def slot_key(slot: Slot) -> SlotKey:
    """What counts belong to: a slot in shadow is another one than the same slot out of it, lest what it
    dropped is taken for what it would have dropped.
    """
    return slot.key, slot.shadow


@dataclass(frozen=True, slots=True)
class Layout:
    """What the counters of a map stand for: bytes from one CPU's counters to the next, each slot's terms, and
    those of what the chain returned.
    """

    stride: int
    slots: Mapping[SlotKey, Terms]
    verdict: Terms

    @property
    def counters(self) -> int:
        """How many counters of a CPU are named."""
        named = (index for terms in (*self.slots.values(), self.verdict) for some in terms for index in some)
        return max(named, default=-1) + 1


@dataclass(frozen=True, slots=True)
class Source:
    """A map of counters, by id, and what is in it."""

    map_id: int
    layout: Layout


@dataclass(frozen=True, slots=True)
class Counting:
    """Where the counts of a chain are. ``origin`` names the counting: the id of the map that it began with,
    the same for as long as counts go on. ``own`` is the map that the program writes to (None in what was
    added to a program afterwards), one of ``sources``. ``slots`` and ``verdict`` are what was counted in maps
    that are no more.
    """

    origin: int
    own: int | None
    sources: tuple[Source, ...]
    slots: Mapping[SlotKey, SlotCounts] = field(default_factory=dict)
    verdict: SlotCounts = field(default_factory=SlotCounts)

    @property
    def maps(self) -> tuple[int, ...]:
        """The ids of all maps."""
        return tuple(source.map_id for source in self.sources)

    @property
    def own_layout(self) -> Layout | None:
        return next((source.layout for source in self.sources if source.map_id == self.own), None)

    def keeping(self, slots: Iterable[SlotKey]) -> Counting:
        """The same without the counts of other slots than these; those of the chain stay whole."""
        kept = frozenset(slots)
        sources = (
            replace(s, layout=replace(s.layout, slots={k: t for k, t in s.layout.slots.items() if k in kept}))
            for s in self.sources
        )
        totals = {key: counts for key, counts in self.slots.items() if key in kept}
        return replace(self, sources=tuple(sources), slots=totals)

    def joined(self, later: Iterable[Counting]) -> Counting:
        """With the maps of programs that ran in between, which were added to this one's."""
        maps = {source.map_id: source for counting in later for source in counting.sources}
        own = {source.map_id: source for source in self.sources}
        return replace(self, sources=tuple((maps | own).values()))

    def encode(self) -> bytes:
        document = {
            "format": FORMAT,
            "origin": self.origin,
            "own": self.own,
            "maps": [
                {
                    "id": source.map_id,
                    "stride": source.layout.stride,
                    "slots": [[*key, terms] for key, terms in source.layout.slots.items()],
                    "verdict": source.layout.verdict,
                }
                for source in self.sources
            ],
            "slots": [[*key, *counts] for key, counts in self.slots.items()],
            "verdict": self.verdict,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Counting:
        """Read what `encode` wrote, padding stripped. Raises InvalidInput."""
        try:
            document = json.loads(data.rstrip(b"\0"))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}, this reads {FORMAT}")
            own, (packets, octets) = document["own"], document["verdict"]
            return cls(
                _natural(document["origin"]),
                None if own is None else _natural(own),
                tuple(map(_source_in, _at_most(MAX_SOURCES, document["maps"]))),
                {
                    (str(key), bool(shadow)): SlotCounts(_row(packets), _row(octets))
                    for key, shadow, packets, octets in _at_most(MAX_SLOTS, document["slots"])
                },
                SlotCounts(_row(packets), _row(octets)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"its description of them can't be read: {error}"
            raise InvalidInput("the chain's counters can't be read", why) from None


def _source_in(document: Mapping[str, Any]) -> Source:
    stride = _natural(document["stride"])
    if not 0 < stride <= MAX_STRIDE or stride % 8:
        raise ValueError(f"a stride of {stride} bytes")
    slots = {
        (str(key), bool(shadow)): _terms_in(terms, stride)
        for key, shadow, terms in _at_most(MAX_SLOTS, document["slots"])
    }
    return Source(_natural(document["id"]), Layout(stride, slots, _terms_in(document["verdict"], stride)))


def _terms_in(document: Any, stride: int) -> Terms:
    terms = tuple(tuple(map(_natural, _at_most(MAX_STRIDE, some))) for some in _at_most(CODES, document))
    if len(terms) != CODES or any((index + 1) * COUNTER > stride for some in terms for index in some):
        raise ValueError("a counter outside its map")
    return terms


def _at_most(most: int, document: Any) -> list[Any]:
    if not isinstance(document, list) or len(document) > most:
        raise ValueError(f"a list of at most {most} was expected")
    return document


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"{str(value)[:40]} is no count")
    return value


def _row(document: Any) -> tuple[int, ...]:
    row = tuple(map(_natural, _at_most(CODES, document)))
    if len(row) != CODES:
        raise ValueError(f"{len(row)} codes")
    return row
