# SPDX-License-Identifier: Apache-2.0
"""The paths of packets through a chain as a graph: where each slot's return codes lead, and which of these
edges ("ways") must be counted so that all are known. Pure.

Every packet that enters a slot leaves it, so not every way needs a counter (Ball and Larus, "Optimally
profiling and tracing programs", 1994). A way is left uncounted only if it is the *sum* of others: it is the
only way into the next slot, or the only way out of its own. Differences would save one more counter where
several ways meet, but could decrease while packets are between two counters, which readers would take for a
restart. In most chains only the ways out of the chain are counted: one addition per packet.

A sum of bytes is correct only if the summed slot does not change the packet's length.

A counted way has a counter for each verdict site that leads to it, and a packet increments one of them. Of
the sites of a summed way all but one have counters: the uncounted one, presumably the most frequent, has
the rest of the sum. The rest is the only difference. It lacks packets that are between two counters, so
readers must not let it decrease (`linkage.counting.CountedMap`); counters that are added have lower indices
than those that are subtracted, so that who reads in that order never finds too many.

Slots that are separate programs count everything that they return, since where it leads may change under
them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count

from xdpchain.frozen import frozen

from .actions import ALL_ACTIONS, Action
from .chain import Chain
from .counting import COUNTER, NOTHING, Layout, Rest, SiteTerms, Terms, slot_key
from .counts import CODES
from .paths import RETURN, entry, successors
from .policy import Policy
from .routes import OTHER

__all__ = [
    "KINDS",
    "MOST_SITES",
    "NEXT",
    "STRAIGHT",
    "UNREPLACED",
    "Counters",
    "Sites",
    "Way",
    "code_of",
    "counted_apart",
    "counted_ways",
    "kind_of",
    "ways_of",
    "ways_out",
]

UNREPLACED = 31
"""The return code of an unreplaced stub in libxdp's dispatcher; every chain continues after it."""

NEXT = CODES
"""The kind of code 31, after those of the actions and that of any other code (`routes.OTHER`)."""
KINDS = range(CODES + 1)
"""The return codes that may lead to different places: the actions, any other code (`routes.OTHER`), and 31.
"""

CACHE_LINE = 64

MOST_SITES = 256
"""Most counters per chain before sites share one per code: 16 bytes each on every CPU."""

Sites = Mapping[int, Collection[int | None]]
"""By kind of code, the verdict sites (indices) that may decide it; None: site unknown."""

WayKey = tuple[int, int]
"""A way's slot and kind."""

Counters = Mapping[WayKey, Mapping[int | None, int | None]]
"""The counters of ways, then by site (None: no particular site). No counter: the site has the rest."""

Numbered = dict[WayKey, dict[int | None, int]]


@frozen
class Way:
    """Where one kind of a slot's return codes leads: to the slot ``to``, to the end (the chain's length), or
    out of the chain (`paths.RETURN`). ``verdict`` is what the chain then returns, None for the code itself.
    ``forbidden``: the slot's policy reports it.
    """

    slot: int
    kind: int
    to: int
    verdict: Action | None = None
    forbidden: bool = False

    @property
    def code(self) -> int:
        """The index in a row of counts."""
        return min(self.kind, OTHER)


STRAIGHT = Way(-1, Action.PASS, 0, Action.PASS)
"""The way from the entry to the end if all slots are off; it starts in no slot."""


def kind_of(code: int | None) -> Collection[int]:
    """The kinds of a 32-bit return code; None: any code."""
    if code is None:
        return KINDS
    return (NEXT,) if code == UNREPLACED else (code if code in ALL_ACTIONS else OTHER,)


def code_of(kind: int) -> int | None:
    """The return code of a kind; None: it is one of many."""
    return UNREPLACED if kind == NEXT else None if kind == OTHER else kind


def ways_of(chain: Chain) -> dict[tuple[int, int], Way]:
    """All ways by slot and kind, including `STRAIGHT` if no slot is on. Raises InvalidInput like
    `successors`.
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


def ways_out(policy: Policy | None = None) -> dict[tuple[int, int], Way]:
    """The ways of a slot that is a program of its own: all lead out of it, with the code that it returned, or
    with its policy's answer.
    """
    ways = {}
    for kind in KINDS:
        forbidden = policy is not None and bool(policy.forbidden >> min(kind, OTHER) & 1)
        answer = _answer(policy) if forbidden else None
        ways[0, kind] = Way(0, kind, RETURN, answer, forbidden)
    return ways


def _answer(policy: Policy | None) -> Action | None:
    return policy.otherwise.action if policy is not None else None


def counted_ways(
    chain: Chain,
    possible: Sequence[Collection[int]],
    keeps_length: Sequence[bool],
    sites: Sequence[tuple[str, Sites]] = (),
    *,
    sums: bool = True,
) -> tuple[Counters, Layout]:
    """Choose the counters of ways, and derive their meaning.

    ``possible``: each slot's possible kinds of codes; ``keeps_length``: which slots never change the packet's
    length; ``sites``: for each slot the name of its sites (`Layout.sites`) and those that lead to each kind;
    without them only ways are counted. Without ``sums`` every way has its own counter.
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
    counted: list[Way] = []
    summed: dict[WayKey, list[Way]] = {}
    for way in (way for some in reversed(out) for way in some):
        own, to = way.slot, way.to
        if not sums:
            counted.append(way)
        elif 0 <= to < len(chain) and keeps_length[to] and len(into[to]) == 1:
            summed[own, way.kind] = out[to]
        # With several ways in, none of them is itself a sum of the ways out. These are counted before the
        # sites, so a rest would be too large while packets are in between.
        elif (
            len(out[own]) == 1
            and keeps_length[own]
            and len(into[own]) > 1
            and len(_sites_of((own, way.kind), sites)) == 1
        ):
            summed[own, way.kind] = into[own]
        else:
            counted.append(way)
    numbered = _numbered(((way.slot, way.kind) for way in counted), sites)
    apart = _numbered_apart(summed, sites, sum(map(len, numbered.values())))
    found: dict[WayKey, tuple[int, ...]] = {}

    def terms(way: Way) -> tuple[int, ...]:
        key = way.slot, way.kind
        if key not in found:
            parts = map(terms, summed[key]) if key in summed else [numbered[key].values()]
            found[key] = tuple(sorted(index for part in parts for index in part))
        return found[key]

    slots = {slot_key(slot): _row((way.code, terms(way)) for way in out[i]) for i, slot in enumerate(chain)}
    ends = (way for some in out for way in some if not 0 <= way.to < len(chain))
    verdict = _row((way.code if way.verdict is None else way.verdict, terms(way)) for way in ends)
    by_site = {
        slot_key(slot): SiteTerms(
            name, _site_terms(some, kinds, numbered, terms), _rests(some, kinds, apart, terms)
        )
        for slot, (name, kinds), some in zip(chain, sites, out, strict=False)
    }
    total = sum(len(some) for some in (*numbered.values(), *apart.values()))
    counters: dict[WayKey, dict[int | None, int | None]] = {way: {**some} for way, some in numbered.items()}
    for key, some in apart.items():
        counters[key] = {**some, _frequent(_sites_of(key, sites)): None}
    return counters, Layout(_stride(total), slots, verdict, by_site)


def counted_apart(
    chain: Chain, sites: Sequence[tuple[str, Sites]], *, verdict: bool
) -> tuple[Counters, Layout]:
    """As `counted_ways`, for slots that are separate programs: ``sites`` are each slot's name of sites, and
    for each kind of code that it may return the sites that lead to it. With ``verdict`` the last counters are
    the chain's verdicts, one per code.
    """
    out = [[Way(index, kind, RETURN) for kind in sorted(kinds)] for index, (_, kinds) in enumerate(sites)]
    counters = _numbered(((way.slot, way.kind) for some in out for way in some), sites)

    def terms(way: Way) -> tuple[int, ...]:
        return tuple(counters[way.slot, way.kind].values())

    slots = {
        slot_key(slot): _row((way.code, terms(way)) for way in some)
        for slot, some in zip(chain, out, strict=True)
    }
    by_site = {
        slot_key(slot): SiteTerms(name, _site_terms(some, kinds, counters, terms))
        for slot, (name, kinds), some in zip(chain, sites, out, strict=True)
    }
    first = sum(map(len, counters.values()))
    ends = tuple((first + code,) for code in range(CODES)) if verdict else NOTHING
    return counters, Layout(_stride(first + CODES * verdict), slots, ends, by_site)


def _numbered(ways: Iterable[WayKey], sites: Sequence[tuple[str, Sites]]) -> Numbered:
    """Number the counters of these ways."""
    counted = sorted(ways)
    told = _told({way: _sites_of(way, sites) for way in counted if 0 <= way[0] < len(sites)}, MOST_SITES)
    numbers = count()
    return {way: {site: next(numbers) for site in _order(told.get(way, (None,)))} for way in counted}


def _numbered_apart(ways: Iterable[WayKey], sites: Sequence[tuple[str, Sites]], first: int) -> Numbered:
    """Number the counters of those sites of summed ways that have one, from ``first`` on."""
    wanted = {}
    for way in sorted(ways):
        able = _sites_of(way, sites)
        if len(able) > 1:
            wanted[way] = [site for site in able if site != _frequent(able)]
    numbers = count(first)
    told = _told(wanted, MOST_SITES - first)
    return {way: {site: next(numbers) for site in _order(told[way])} for way in told}


def _sites_of(way: WayKey, sites: Sequence[tuple[str, Sites]]) -> Collection[int | None]:
    slot, kind = way
    return sites[slot][1].get(kind, (None,)) if 0 <= slot < len(sites) else (None,)


def _frequent(sites: Collection[int | None]) -> int | None:
    """The site that most packets are expected to pass: the last, after all checks."""
    return _order(sites)[-1]


def _site_terms(
    out: Iterable[Way], kinds: Sites, counters: Numbered, terms: Callable[[Way], tuple[int, ...]]
) -> dict[tuple[int, int], tuple[int, ...]]:
    """A slot's site counters, by site and code; ``out`` are the slot's ways."""
    rows: dict[tuple[int, int], tuple[int, ...]] = {}
    for way in out:
        split = counters.get((way.slot, way.kind))
        if split is None:  # a sum is known by site only if there is just one
            able = tuple(kinds.get(way.kind, (None,)))
            parts = {able[0]: terms(way)} if len(able) == 1 else {}
        else:
            parts = {site: (index,) for site, index in split.items()}
        for site, indices in parts.items():
            if site is not None:
                rows[site, way.code] = tuple(sorted((*rows.get((site, way.code), ()), *indices)))
    return rows


def _rests(
    out: Iterable[Way], kinds: Sites, apart: Numbered, terms: Callable[[Way], tuple[int, ...]]
) -> dict[tuple[int, int], Rest]:
    """The counters of a slot's summed ways, by site and code."""
    rows: dict[tuple[int, int], Rest] = {}
    for way in out:
        some = apart.get((way.slot, way.kind))
        if some is not None:
            less = tuple(sorted(some.values()))
            parts = {site: Rest((index,), ()) for site, index in some.items()}
            parts[_frequent(kinds[way.kind])] = Rest(terms(way), less)
            for site, rest in parts.items():
                if site is not None:
                    plus, minus = rows.get((site, way.code), Rest((), ()))
                    rows[site, way.code] = Rest((*plus, *rest.plus), (*minus, *rest.minus))
    return rows


def _stride(counters: int) -> int:
    """Bytes of one CPU's counters: whole cache lines."""
    return -(-max(1, counters) * COUNTER // CACHE_LINE) * CACHE_LINE


def _told(wanted: Mapping[WayKey, Collection[int | None]], room: int) -> dict[WayKey, Collection[int | None]]:
    """The ways whose sites get counters of their own: slots with few sites first, as far as there is room."""
    by_slot: dict[int, dict[WayKey, Collection[int | None]]] = {}
    for way, some in wanted.items():
        by_slot.setdefault(way[0], {})[way] = some
    told: dict[WayKey, Collection[int | None]] = {}
    for ways in sorted(by_slot.values(), key=lambda ways: sum(map(len, ways.values()))):
        room -= sum(map(len, ways.values()))
        if room >= 0:
            told |= ways
    return told


def _order(sites: Collection[int | None]) -> list[int | None]:
    return sorted(sites, key=lambda site: -1 if site is None else site)


def _row(found: Iterable[tuple[int, tuple[int, ...]]]) -> Terms:
    row: list[list[int]] = [[] for _ in range(CODES)]
    for code, indices in found:
        row[code] += indices
    return tuple(tuple(sorted(indices)) for indices in row)
