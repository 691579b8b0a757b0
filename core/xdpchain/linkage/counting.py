# SPDX-License-Identifier: Apache-2.0
"""The counters of a chain that counts for itself: its map, and how counts carry on from earlier programs.

Nothing is ever copied into a map in use. A new program whose counters have the same meaning takes over the
map. Any other gets its own map, and a description of where the rest of its counts are (`model.counting`):
maps of earlier programs, and totals of maps that no packet can be counted in any more. Before the swap the
new map is also bound to the old program, so that packets counted meanwhile are not lost if that comes back.

Layouts follow the ways through a chain (`flow`). `row_layout` is for chains of earlier versions: a row of all
codes per slot, which the slot keeps for as long as it is in the chain.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from weakref import WeakValueDictionary

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain
from xdpchain.model.counting import (
    COUNTER,
    NOTHING,
    Counting,
    Layout,
    SiteTerms,
    SlotKey,
    Source,
    Terms,
    slot_key,
)
from xdpchain.model.counts import CODES, SiteCounts, SlotCounts
from xdpchain.model.manifest import MOST_ROW, Manifest
from xdpchain.model.running import Running
from xdpchain.sys import blobs, bpf
from xdpchain.sys.cpus import added_up, possible_cpus
from xdpchain.sys.grace import wait_for_packets

__all__ = [
    "COUNTERS",
    "COUNTS",
    "ROWS",
    "ROW_SIZE",
    "STRIDE",
    "CountedMap",
    "OwnCounters",
    "assign_rows",
    "clear_rows",
    "counter_layout",
    "counters_for",
    "describe",
    "going_on",
    "make_counters",
    "read_counting",
    "row_layout",
    "share_with",
    "sites_sum",
]

COUNTERS = "xdptui_counters"
COUNTS = "xdptui_counts"
"""The name of the map that holds the description."""

ROWS = 21
ROW_SIZE = CODES * COUNTER
STRIDE = ROWS * ROW_SIZE + 32
"""Bytes of one CPU's counters in rows: ``struct cpu_counts`` of bpf/include/counters.h."""

MOST_NOTED = 1 << 20
"""Most bytes of a description."""

CACHE_LINE = 64
BPF_F_MMAPABLE = 1 << 10

FOLD_AT = 4
"""From this number on, maps of programs that are gone are added up; fewer are carried on, since that needs no
waiting.
"""


def counter_layout() -> tuple[int, int, int]:
    """Bytes from one CPU's counters to the next, bytes of a row, and codes in a row."""
    return STRIDE, ROW_SIZE, CODES


def assign_rows(candidate: Chain, running: Running) -> list[int]:
    """A number for each slot: its own if it runs, otherwise one that no running slot uses. In chains of
    earlier releases it is the slot's row of the counters, and row 0 is the verdict.

    It is the slot's number wherever one is needed for the slot's lifetime. A slot that enters or
    leaves shadow starts at zero: what it would have dropped and what it dropped are never mixed.
    """
    own = {slot_key(slot): slot.row for slot in running.chain or () if slot.row}
    free = iter(sorted(set(range(1, MOST_ROW + 1)) - set(own.values())))
    return [own.get(slot_key(slot)) or next(free) for slot in candidate.slots]


def row_layout(chain: Chain) -> Layout:
    """A row for each of the chain's slots that has one, and row 0 for what the chain returned."""

    def terms(row: int) -> Terms:
        return tuple((row * CODES + code,) for code in range(CODES))

    return Layout(STRIDE, {slot_key(slot): terms(slot.row) for slot in chain if slot.row}, terms(0))


def make_counters() -> bpf.Fd:
    """A new, zeroed map of rows."""
    return _create(STRIDE, possible_cpus())


def _create(size: int, entries: int) -> bpf.Fd:
    try:
        return bpf.map_create(bpf.MapType.ARRAY, 4, size, entries, name=COUNTERS, flags=BPF_F_MMAPABLE)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the counters can't be created") from error


def clear_rows(counters: bpf.Fd, rows: Sequence[int]) -> None:
    """Zero these rows, on every CPU."""
    size = STRIDE * possible_cpus()
    with mmap.mmap(counters.fileno(), -(-size // mmap.PAGESIZE) * mmap.PAGESIZE) as view:
        for at in range(0, size, STRIDE):
            for row in rows:
                start = at + row * ROW_SIZE
                view[start : start + ROW_SIZE] = bytes(ROW_SIZE)


@frozen
class OwnCounters:
    """The map that a new program counts in. ``fresh``: no other program does."""

    fd: bpf.Fd
    map_id: int
    layout: Layout
    fresh: bool


def counters_for(layout: Layout, counting: Counting | None, held: contextlib.ExitStack) -> OwnCounters:
    """The running chain's map, if its counters have the same meaning, or a new one: one element, which
    programs address directly.
    """
    size = layout.stride * possible_cpus()
    kept = (
        next((source.map_id for source in counting.current if source.layout == layout), None)
        if counting
        else None
    )
    if kept is not None:
        try:
            fd = held.enter_context(bpf.map_by_id(kept))
            info = bpf.map_info(fd)
        except bpf.BpfError as error:
            raise bpf.refusal(error, "the running chain's counters can't be opened") from error
        shape = (info.name, info.type, info.value_size, info.max_entries)
        if shape == (COUNTERS, bpf.MapType.ARRAY, size, 1):
            return OwnCounters(fd, info.id, layout, False)
    fd = held.enter_context(_create(size, 1))
    return OwnCounters(fd, bpf.map_info(fd).id, layout, True)


def going_on(candidate: Chain, running: Running) -> Counting | None:
    """The counts that carry on in the candidate; None if nothing counts."""
    if running.counting is None or running.chain is None:
        return None
    return running.counting.keeping(set(map(slot_key, candidate)) & set(map(slot_key, running.chain)))


def describe(
    program: bpf.Fd, own: OwnCounters, before: Counting | None, held: contextlib.ExitStack
) -> tuple[Counting, int]:
    """Bind to the program the description of its counts, and the maps of what counted ``before``; also
    returns the map ID of the description. Raises BpfError, InvalidInput.
    """
    source = Source(own.map_id, own.layout)
    if before is None:
        counting = Counting(own.map_id, own.map_id, (source,))
    else:
        counting = _folded(before)
        others = tuple(source for source in counting.sources if source.map_id != own.map_id)
        counting = replace(counting, own=own.map_id, sources=(source, *others))
        for other in others:
            with bpf.map_by_id(other.map_id) as fd:
                bpf.prog_bind_map(program, fd)
    blob = held.enter_context(blobs.make(COUNTS, counting.encode()))
    bpf.prog_bind_map(program, blob)
    map_id = bpf.map_info(blob).id
    blobs.keep(map_id, Counting.decode, counting)
    return counting, map_id


def share_with(running: Running, own: OwnCounters) -> None:
    """Bind the new program's counters to the one that runs now, so that their counts are not lost if that
    comes back. Harmless if it doesn't, or if nothing was counted. Raises BpfError.
    """
    counting, hook, chain = running.counting, running.hook, running.chain
    if counting is None or hook is None or chain is None or not own.fresh:
        return
    added = Counting(counting.origin, None, (Source(own.map_id, own.layout),))
    programs = [hook.prog_id]
    if running.linkage_facts.by_component:  # its dispatcher may have only one map, and its components count
        counted = [slot for slot in chain if slot_key(slot) in own.layout.slots]
        programs = [slot.id for slot in counted if slot.id is not None and counting.counts(slot_key(slot))]
    with blobs.make(COUNTS, added.encode()) as blob:
        for prog_id in programs:
            with bpf.prog_by_id(prog_id) as program:
                bpf.prog_bind_map(program, own.fd)
                bpf.prog_bind_map(program, blob)


def read_counting(carried: Manifest, map_ids: Sequence[int], carrier: str) -> Counting | None:
    """Where a program with these maps counts, according to the manifest in the map called ``carrier``; None
    if it does not count. Raises BpfError, InvalidInput.
    """
    own = carried.counters_map
    if own is None:
        return None
    if carried.counts_map is None:  # as earlier versions counted
        counting = Counting(own, own, (Source(own, row_layout(carried.chain)),))
    else:
        counting = blobs.decoded(carried.counts_map, Counting.decode, MOST_NOTED)
    # Maps bound after the manifest: of what replaced this program for a while and counted elsewhere.
    later = []
    for map_id in reversed(map_ids):
        with bpf.map_by_id(map_id) as fd:
            name = bpf.map_info(fd).name
        if name == COUNTS and map_id != carried.counts_map:
            later.append(blobs.decoded(map_id, Counting.decode, MOST_NOTED))
        if name == carrier:
            break
    return counting.joined(later)


def _folded(counting: Counting) -> Counting:
    """The same counts; maps in which only programs before the running one counted are added up if there are
    many.
    """
    current = {source.map_id for source in counting.current}
    older = [source for source in counting.sources if source.map_id not in current]
    if len(older) < FOLD_AT:
        return counting
    wait_for_packets()  # a packet may still be on its way through the program before this one
    slots, verdict, sites = dict(counting.slots), counting.verdict, dict(counting.sites)
    for source in older:
        with bpf.map_by_id(source.map_id) as fd, contextlib.closing(CountedMap(fd, source.layout)) as counted:
            keys = tuple(source.layout.slots)
            more, *rows = counted.read(keys)
            by_site = counted.read_sites()
        verdict = verdict.plus(more)
        for key, row in zip(keys, rows, strict=True):
            slots[key] = slots.get(key, SlotCounts()).plus(row)
        for named, counts in by_site.items():
            sites[named] = sites_sum(sites.get(named, {}), counts)
    kept = tuple(source for source in counting.sources if source.map_id in current)
    return replace(counting, sources=kept, slots=slots, verdict=verdict, sites=sites)


def sites_sum(some: SiteCounts, more: SiteCounts) -> SiteCounts:
    """Two sets of counts by site, added up."""
    if not (some and more):
        return some or more
    nothing = 0, 0
    found = {}
    for which in some.keys() | more.keys():
        (packets, octets), (also, longer) = some.get(which, nothing), more.get(which, nothing)
        found[which] = packets + also, octets + longer
    return found


_Reader = Callable[[Sequence[int]], int]


class _Least(dict[tuple[tuple[SlotKey, str], tuple[int, int]], tuple[int, int]]):
    """The largest packets and bytes read so far, by slot and name, then site and code."""


_LEAST: WeakValueDictionary[int, _Least] = WeakValueDictionary()
"""By map ID: readers of the same map agree."""


class CountedMap:
    """A map of counters in memory, read without system calls. Remains valid when the program that counts is
    gone.
    """

    def __init__(self, counters: bpf.Fd, layout: Layout) -> None:
        """Raises OSError, InvalidInput (not a map of counters, or too small for the layout)."""
        info = bpf.map_info(counters)
        size = info.value_size * info.max_entries
        words = layout.counters * COUNTER // 8
        fits = words * 8 <= layout.stride <= size
        mapped = info.type == bpf.MapType.ARRAY and info.flags & BPF_F_MMAPABLE
        if not mapped or info.value_size % 8 or not fits:
            raise InvalidInput(f"map {info.id} can't be read as counters", "its contents are something else")
        self._layout = layout
        self._starts = range(0, size - layout.stride + 1, layout.stride)
        self._words = struct.Struct(f"={words}Q")
        self._map = mmap.mmap(
            counters.fileno(), -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, prot=mmap.PROT_READ
        )
        self._plans: dict[tuple[SlotKey, ...], tuple[list[_Sum], list[int]]] = {}
        self._sites: list[_Sites] | None = None
        self._least = _LEAST.setdefault(info.id, _Least())
        self._last: tuple[int, ...] = (0,) * (words + 1)

    def read(self, slots: tuple[SlotKey, ...]) -> list[SlotCounts]:
        """What the chain returned, then what each of these slots did, summed over CPUs; zero for a slot that
        is not counted here.
        """
        plan = self._plans.get(slots)
        if plan is None:
            terms = (self._layout.verdict, *(self._layout.slots.get(slot, NOTHING) for slot in slots))
            # In many chains the same counters serve all slots.
            unique = list(dict.fromkeys(terms))
            sums = [_Sum(some, self._words.size // 8) for some in unique]
            plan = self._plans[slots] = sums, [unique.index(some) for some in terms]
        # Up to the last counter: far cheaper than one by one.
        total = self._words.unpack(added_up(self._map, self._starts, self._words.size))
        self._last = total = (*total, 0)
        found = [one.of(total) for one in plan[0]]
        return [found[which] for which in plan[1]]

    def read_cpus(self) -> list[SlotCounts]:
        """What the chain returned, per CPU."""
        row = _Sum(self._layout.verdict, self._words.size // 8)
        return [row.of((*self._words.unpack_from(self._map, start), 0)) for start in self._starts]

    def read_sites(self) -> dict[tuple[SlotKey, str], SiteCounts]:
        """The counts by site as of the last `read`, which includes them, by slot and `SiteTerms.name`. What
        is derived may lack packets that are between two counters, but never decreases.
        """
        if self._sites is None:
            self._sites = [_Sites((slot, some.name), some) for slot, some in self._layout.sites.items()]
        return {some.named: some.of(self._last, self._least) for some in self._sites}

    def close(self) -> None:
        self._map.close()


class _Sum:
    """The counts of one row: which words to add. Most often each code has one counter or none."""

    def __init__(self, terms: Terms, nothing: int) -> None:
        first = [some[0] if some else None for some in terms]
        self._packets, self._octets = (
            itemgetter(*(nothing if index is None else 2 * index + kind for index in first))
            for kind in (0, 1)
        )
        self._more = [(code, *_sums_of(some[1:])) for code, some in enumerate(terms) if len(some) > 1]

    def of(self, total: Sequence[int]) -> SlotCounts:
        if not self._more:
            return SlotCounts(self._packets(total), self._octets(total))
        packets, octets = [*self._packets(total)], [*self._octets(total)]
        for code, further, longer in self._more:
            packets[code] += further(total)
            octets[code] += longer(total)
        return SlotCounts(tuple(packets), tuple(octets))


class _Sites:
    """The counts of a slot's sites: which words to add and, for a rest, to subtract."""

    def __init__(self, named: tuple[SlotKey, str], some: SiteTerms) -> None:
        self.named = named
        added = dict(some.terms)
        for which, rest in some.apart.items():
            added[which] = (*added.get(which, ()), *rest.plus)
        self._added = [(which, *_sums_of(terms)) for which, terms in added.items()]
        self._rests = [(which, *_sums_of(rest.minus)) for which, rest in some.apart.items() if rest.minus]

    def of(self, total: Sequence[int], least: _Least) -> SiteCounts:
        found = {which: (packets(total), octets(total)) for which, packets, octets in self._added}
        for which, packets, octets in self._rests:
            (n, size), (few, fewest) = found[which], least.get((self.named, which), (0, 0))
            now = max(few, n - packets(total)), max(fewest, size - octets(total))
            found[which] = least[self.named, which] = now
        return found


def _sums_of(terms: tuple[int, ...]) -> tuple[_Reader, _Reader]:
    """What adds up the packets, and the bytes, of these counters."""
    packets, octets = (_sum_of([2 * index + kind for index in terms]) for kind in (0, 1))
    return packets, octets


def _sum_of(words: Sequence[int]) -> _Reader:
    if not words:
        return lambda total: 0
    get = itemgetter(*words)
    return get if len(words) == 1 else lambda total: sum(get(total))
