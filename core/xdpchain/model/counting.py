# SPDX-License-Identifier: Apache-2.0
"""The location of a chain's counts and the meaning of each counter <-> JSON. Pure.

A program counts in a map laid out for it. Its predecessor's map is left untouched: packets may still be
inside that program after the swap, and a killed process must lose no counts. So a chain's counts are the sum
over its own map, those of its predecessors, and totals of retired maps. A frozen description bound to the
program (`Counting`) lists them.

Every figure is a sum of counters (`Layout`), so none can decrease while packets flow. Only the counts of
some verdict sites are differences (`Rest`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any, NamedTuple, TypeVar

from xdpchain.decoding import ID, Fields, fields
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .counts import CODES, SiteCounts, SlotCounts
from .slot import Slot

__all__ = [
    "COUNTER",
    "NOTHING",
    "Counting",
    "Layout",
    "Rest",
    "SiteTerms",
    "SlotKey",
    "Source",
    "Terms",
    "slot_key",
]

T = TypeVar("T")

WHAT = "the description of the chain's counters"

FORMAT = 1
COUNTER = 16
"""Bytes of a counter: packets, then bytes, 64 bits each."""

MAX_STRIDE, MAX_SOURCES, MAX_SLOTS, MAX_SITES = 1 << 16, 256, 256, 4096
MAX_NAME = 64

Terms = tuple[tuple[int, ...], ...]
"""For each return code (`counts.CODES`), the indices of the counters that add up to its packets."""

NOTHING: Terms = ((),) * CODES
"""The terms of something that is not counted."""

SlotKey = tuple[str, bool]


def slot_key(slot: Slot) -> SlotKey:
    """The key of a slot's counts. In and out of shadow are different keys: actual drops must not be mixed
    with those that a shadow would have made.
    """
    return slot.key, slot.shadow


class Rest(NamedTuple):
    """The counters that are added, and those that are subtracted, which have higher indices."""

    plus: tuple[int, ...]
    minus: tuple[int, ...]


@frozen
class SiteTerms:
    """A slot's counted verdict sites: the counters by site index and return code (`counts.CODES`), a subset
    of the code's. ``name`` identifies the program that has these sites. ``apart``: the same for sites of a
    code that is the sum of later counters: counters of their own, which are not among the code's, and for
    one site the rest.
    """

    name: str
    terms: Mapping[tuple[int, int], tuple[int, ...]]
    apart: Mapping[tuple[int, int], Rest] = field(default_factory=dict)


@frozen
class Layout:
    """The meaning of a map's counters: bytes between the counters of consecutive CPUs, and the terms of
    slots, of the chain's verdict, and of slots' verdict sites.
    """

    stride: int
    slots: Mapping[SlotKey, Terms]
    verdict: Terms
    sites: Mapping[SlotKey, SiteTerms] = field(default_factory=dict)

    def of(self, slots: Iterable[SlotKey]) -> Layout:
        """The same counters for these slots in the place of its own."""
        keys = dict(zip(self.slots, slots, strict=True))
        terms = {keys[key]: some for key, some in self.slots.items()}
        return replace(self, slots=terms, sites={keys[key]: some for key, some in self.sites.items()})

    @property
    def counters(self) -> int:
        """The number of counters per CPU that are referred to."""
        named = [
            index for terms in (*self.slots.values(), self.verdict) for indices in terms for index in indices
        ]
        rests = (rest for some in self.sites.values() for rest in some.apart.values())
        return (
            max((*named, *(index for rest in rests for index in (*rest.plus, *rest.minus))), default=-1) + 1
        )


@frozen
class Source:
    """A map of counters, by ID, and its layout."""

    map_id: int
    layout: Layout


@frozen
class Counting:
    """The location of a chain's counts. ``origin`` identifies the count: the ID of its first map, unchanged
    for as long as counts continue. ``own`` is the map that the program writes to, one of ``sources`` (None if
    counters were added to a program later, or if each component has its own map). ``slots``, ``verdict`` and
    ``sites`` (by slot and `SiteTerms.name`) are totals from maps that no longer exist.
    """

    origin: int
    own: int | None
    sources: tuple[Source, ...]
    slots: Mapping[SlotKey, SlotCounts] = field(default_factory=dict)
    verdict: SlotCounts = field(default_factory=SlotCounts)
    sites: Mapping[tuple[SlotKey, str], SiteCounts] = field(default_factory=dict)

    @property
    def maps(self) -> tuple[int, ...]:
        """The IDs of all maps."""
        return tuple(source.map_id for source in self.sources)

    @property
    def current(self) -> tuple[Source, ...]:
        """The maps that the running program may write to."""
        return self.sources if self.own is None else tuple(s for s in self.sources if s.map_id == self.own)

    def keeping(self, slots: Iterable[SlotKey]) -> Counting:
        """The counting with only these slots; the chain's own counts stay complete."""
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
        """The counting of one slot, without the chain's verdict; None if it is not counted."""
        kept = self.keeping((slot,))
        sources = tuple(
            replace(source, layout=replace(source.layout, verdict=NOTHING))
            for source in kept.sources
            if source.layout.slots
        )
        only = replace(kept, sources=sources, verdict=SlotCounts())
        return only if only.sources or only.slots else None

    @classmethod
    def of_components(cls, countings: Iterable[Counting]) -> Counting | None:
        """The combined counting of components that count separately; None if there are none. They do not
        count the chain's verdict.
        """
        all_of_them = tuple(countings)
        sources: dict[int, Source] = {}
        # Current maps come first: for sites, the first ones win.
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
        """The counting extended by the maps of programs that ran in between."""
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
                    # Releases that don't know these ignore them: to them the code has sites in common.
                    "apart": [
                        [*key, [[*which, *rest] for which, rest in some.apart.items()]]
                        for key, some in source.layout.sites.items()
                        if some.apart
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
    apart = dict(_apart_in(document))
    sites = {
        key: SiteTerms(name, dict(some), apart.get(key, {}))
        for key, name, some in _sites_in(document, 0, MAX_SITES)
    }
    of_sites = (terms for some in sites.values() for terms in (*some.terms.values(), *_each(some.apart)))
    indices = (index for terms in of_sites for index in terms)
    if any((index + 1) * COUNTER > stride for index in indices):
        raise _invalid("a counter outside its map")
    return Source(document.integer("id", most=ID), Layout(stride, slots, verdict, sites))


Numbered = tuple[tuple[int, int], tuple[int, ...]]


def _sites_in(document: Fields, least: int, most: int) -> Iterator[tuple[SlotKey, str, list[Numbered]]]:
    """Slots' sites, with ``least`` to ``most`` numbers for each site and code. Documents of earlier releases
    have none.
    """
    for row in document.list("sites", most=MAX_SLOTS, default=()):
        match row:
            case [str(key), bool(shadow), str(name), [*some]] if (
                len(name) <= MAX_NAME and len(some) <= MAX_SITES
            ):
                yield (key, shadow), name, [_numbered_in(value, least, most) for value in some]
            case _:
                raise _invalid("no sites of a slot")


def _apart_in(document: Fields) -> Iterator[tuple[SlotKey, dict[tuple[int, int], Rest]]]:
    """The counters of sites of sums. Documents of earlier releases have none."""
    for row in document.list("apart", most=MAX_SLOTS, default=()):
        match row:
            case [str(key), bool(shadow), [*some]] if len(some) <= MAX_SITES:
                yield (key, shadow), dict(map(_rest_in, some))
            case _:
                raise _invalid("no sites of a slot")


def _rest_in(value: Any) -> tuple[tuple[int, int], Rest]:
    match value:
        case [site, code, plus, minus]:
            which, added = _numbered_in([site, code, plus], 0, MAX_SITES)
            return which, Rest(added, _numbered_in([site, code, minus], 0, MAX_SITES)[1])
    raise _invalid("no counters of a site")


def _each(rests: Mapping[tuple[int, int], Rest]) -> Iterator[tuple[int, ...]]:
    for rest in rests.values():
        yield from rest


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
        and all(type(word) is int and 0 <= word < 1 << 64 for word in value)
    )


def _invalid(why: str) -> InvalidInput:
    return InvalidInput(f"{WHAT} can't be read", why)
