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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from xdpchain.decoding import ID, Fields, fields
from xdpchain.errors import InvalidInput

from .chain import Slot
from .counts import CODES, SiteCounts, SlotCounts

__all__ = ["COUNTER", "NOTHING", "Counting", "Layout", "SiteTerms", "SlotKey", "Source", "Terms", "slot_key"]

T = TypeVar("T")

WHAT = "the description of the chain's counters"

FORMAT = 1
COUNTER = 16
"""Bytes of a counter: packets, then bytes, 64 bits each."""

MAX_STRIDE, MAX_SOURCES, MAX_SLOTS, MAX_SITES = 1 << 16, 256, 256, 4096
MAX_NAME = 64

Terms = tuple[tuple[int, ...], ...]
"""For each return code (`counts.CODES`) the indices of the counters whose sum is the number of packets."""

NOTHING: Terms = ((),) * CODES
"""What is not counted."""

SlotKey = tuple[str, bool]


def slot_key(slot: Slot) -> SlotKey:
    """What counts belong to: a slot in shadow is another one than the same slot out of it, lest what it
    dropped is taken for what it would have dropped.
    """
    return slot.key, slot.shadow


@dataclass(frozen=True, slots=True)
class SiteTerms:
    """A slot's verdict sites that are counted: the counters of each by the site's index and the return code
    (`counts.CODES`). They are among those of the code. ``name`` stands for the program whose sites these are.
    """

    name: str
    terms: Mapping[tuple[int, int], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """What the counters of a map stand for: bytes from one CPU's counters to the next, each slot's terms,
    those of what the chain returned, and those of slots' verdict sites.
    """

    stride: int
    slots: Mapping[SlotKey, Terms]
    verdict: Terms
    sites: Mapping[SlotKey, SiteTerms] = field(default_factory=dict)

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
    the same for as long as counts go on. ``own`` is the map that the program writes to, one of ``sources``
    (None in what was added to a program afterwards, and where each component has a map of its own).
    ``slots``, ``verdict`` and ``sites`` (by slot and `SiteTerms.name`) are what was counted in maps that are
    no more.
    """

    origin: int
    own: int | None
    sources: tuple[Source, ...]
    slots: Mapping[SlotKey, SlotCounts] = field(default_factory=dict)
    verdict: SlotCounts = field(default_factory=SlotCounts)
    sites: Mapping[tuple[SlotKey, str], SiteCounts] = field(default_factory=dict)

    @property
    def maps(self) -> tuple[int, ...]:
        """The ids of all maps."""
        return tuple(source.map_id for source in self.sources)

    @property
    def current(self) -> tuple[Source, ...]:
        """The maps that what runs may write to."""
        return self.sources if self.own is None else tuple(s for s in self.sources if s.map_id == self.own)

    def keeping(self, slots: Iterable[SlotKey]) -> Counting:
        """The same without the counts of other slots than these; those of the chain stay whole."""
        kept = frozenset(slots)
        sources = []
        for source in self.sources:
            layout = source.layout
            terms = {key: some for key, some in layout.slots.items() if key in kept}
            sites = {key: some for key, some in layout.sites.items() if key in kept}
            sources.append(replace(source, layout=replace(layout, slots=terms, sites=sites)))
        totals = {key: counts for key, counts in self.slots.items() if key in kept}
        by_site = {key: counts for key, counts in self.sites.items() if key[0] in kept}
        return replace(self, sources=tuple(sources), slots=totals, sites=by_site)

    def of_slot(self, slot: SlotKey) -> Counting | None:
        """What there is of one slot, without what the chain returned; None if there is nothing."""
        kept = self.keeping((slot,))
        sources = tuple(
            replace(source, layout=replace(source.layout, verdict=NOTHING))
            for source in kept.sources
            if source.layout.slots
        )
        found = replace(kept, sources=sources, verdict=SlotCounts())
        return found if found.sources or found.slots else None

    @classmethod
    def of_components(cls, countings: Iterable[Counting]) -> Counting | None:
        """Of components that count each for itself, all together; None for none. What the chain returns is
        counted by none of them.
        """
        all_of_them = tuple(countings)
        sources: dict[int, Source] = {}
        # What components count in now comes first, for of their sites those are told that come first.
        for source in (
            *(source for counting in all_of_them for source in counting.current),
            *(source for counting in all_of_them for source in counting.sources),
        ):
            before = sources.get(source.map_id, source)
            layout = replace(
                source.layout,
                slots={**before.layout.slots, **source.layout.slots},
                sites={**before.layout.sites, **source.layout.sites},
            )
            sources[source.map_id] = replace(source, layout=layout)
        if not all_of_them:
            return None
        slots = {key: counts for counting in all_of_them for key, counts in counting.slots.items()}
        sites = {key: counts for counting in all_of_them for key, counts in counting.sites.items()}
        origin = min(counting.origin for counting in all_of_them)
        return cls(origin, None, tuple(sources.values()), slots, SlotCounts(), sites)

    def counts(self, slot: SlotKey) -> bool:
        """Whether a slot is counted."""
        return slot in self.slots or any(slot in source.layout.slots for source in self.sources)

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
                    "sites": [
                        [*key, some.name, [[*which, terms] for which, terms in some.terms.items()]]
                        for key, some in source.layout.sites.items()
                    ],
                }
                for source in self.sources
            ],
            "slots": [[*key, *counts] for key, counts in self.slots.items()],
            "verdict": self.verdict,
            "sites": [
                [*key, name, [[*which, counts] for which, counts in some.items()]]
                for (key, name), some in self.sites.items()
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Counting:
        """Read what `encode` wrote, padding stripped. Raises InvalidInput."""
        document = fields(data.rstrip(b"\0"), WHAT)
        if document.integer("format") != FORMAT:
            raise _invalid(f"format {document.integer('format')}, this reads {FORMAT}")
        rows = document.list("slots", most=MAX_SLOTS)
        return cls(
            document.integer("origin", most=ID),
            document.integer_or_none("own", most=ID),
            tuple(map(_source_in, document.objects("maps", most=MAX_SOURCES))),
            dict(_slot_in(row, _counts_in) for row in rows),
            _counts_in(document.list("verdict", most=2)),
            {
                (key, name): {which: (packets, octets) for which, (packets, octets) in some}
                for key, name, some in _sites_in(document, 2, 2)
            },
        )


def _source_in(document: Fields) -> Source:
    stride = document.integer("stride", least=8, most=MAX_STRIDE)
    if stride % 8:
        raise _invalid(f"a stride of {stride} bytes")

    def terms_in(value: list[Any]) -> Terms:
        match value:
            case [[*terms]] if len(terms) == CODES and all(map(_is_numbers, terms)):
                pass
            case _:
                raise _invalid("no counters of six codes")
        if any((index + 1) * COUNTER > stride for some in terms for index in some):
            raise _invalid("a counter outside its map")
        return tuple(map(tuple, terms))

    slots = dict(_slot_in(row, terms_in) for row in document.list("slots", most=MAX_SLOTS))
    verdict = terms_in([document.list("verdict", most=CODES)])
    sites = {key: SiteTerms(name, dict(some)) for key, name, some in _sites_in(document, 0, MAX_SITES)}
    indices = (index for some in sites.values() for terms in some.terms.values() for index in terms)
    if any((index + 1) * COUNTER > stride for index in indices):
        raise _invalid("a counter outside its map")
    return Source(document.integer("id", most=ID), Layout(stride, slots, verdict, sites))


Numbered = tuple[tuple[int, int], tuple[int, ...]]


def _sites_in(document: Fields, least: int, most: int) -> Iterator[tuple[SlotKey, str, list[Numbered]]]:
    """What is said of slots' sites: for each site and code from ``least`` to ``most`` numbers. Nothing in
    what earlier releases wrote.
    """
    for row in document.list("sites", most=MAX_SLOTS, default=()):
        match row:
            case [str(key), bool(shadow), str(name), [*some]] if (
                len(name) <= MAX_NAME and len(some) <= MAX_SITES
            ):
                yield (key, shadow), name, [_numbered_in(value, least, most) for value in some]
            case _:
                raise _invalid("no sites of a slot")


def _numbered_in(value: Any, least: int, most: int) -> Numbered:
    match value:
        case [site, code, numbers] if _is_numbers([site, code]) and _is_numbers(numbers):
            if code < CODES and site < MAX_STRIDE and least <= len(numbers) <= most:
                return (site, code), tuple(numbers)
    raise _invalid("no counters of a site")


def _slot_in(row: Any, content: Callable[[list[Any]], T]) -> tuple[SlotKey, T]:
    match row:
        case [str(key), bool(shadow), *rest] if len(rest) in (1, 2):
            return (key, shadow), content(rest)
    raise _invalid("no counts of a slot")


def _counts_in(value: list[Any]) -> SlotCounts:
    match value:
        case [packets, octets] if all(_is_numbers(row) and len(row) == CODES for row in (packets, octets)):
            return SlotCounts(tuple(packets), tuple(octets))
    raise _invalid("no packets and bytes of six codes")


def _is_numbers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_STRIDE
        and all(type(number) is int and 0 <= number < 1 << 64 for number in value)
    )


def _invalid(why: str) -> InvalidInput:
    return InvalidInput(f"{WHAT} can't be read", why)
