# SPDX-License-Identifier: Apache-2.0
"""Per-slot, per-action counters of a running chain, read through mmap without system calls.

There are six codes: the five actions, and one for any other return code. Each counter is written by a single
CPU; a sample may fall between the update of its packets and bytes. Counts from before an edit are included
(`model.counting`), so samples of successive chains can be subtracted.

Static and tail-call chains have their own counters, and so do components that xdptui loaded under freplace
linkage. Components of other tools, single foreign programs, and the verdicts of freplace chains are counted
from outside while a reader is open: see `trace`.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from functools import reduce

from xdpchain.closing import Closing
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.linkage.counting import CountedMap, sites_sum
from xdpchain.model.chain import Chain
from xdpchain.model.counting import Counting, SiteTerms, SlotKey, slot_key
from xdpchain.model.counts import CODES, FOREIGN, CounterReader, Sample, SiteCounts, SlotCounts
from xdpchain.model.running import Running
from xdpchain.sys import bpf

__all__ = [
    "CODES",
    "FOREIGN",
    "CounterReader",
    "DispatcherCounters",
    "Sample",
    "SlotCounts",
    "open_counters",
]


class DispatcherCounters(Closing):
    """The built-in counters of a chain, or of those of its components that have some."""

    def __init__(self, counting: Counting, chain: Chain, *, sites: bool = True) -> None:
        """Map them; ``sites``: also those of verdict sites. Raises NotFound, PermissionDenied,
        InvalidInput.
        """
        self._whole = chain.linkage.facts.counts_chain
        counted_slots = [slot for slot in chain if self._whole or counting.counts(slot_key(slot))]
        self._keys = tuple(slot.key for slot in counted_slots)
        self._slots = tuple(map(slot_key, counted_slots))
        # Totals that no longer change.
        base = [counting.verdict, *(counting.slots.get(slot, SlotCounts()) for slot in self._slots)]
        self._base = base if any(row.total_packets for row in base) else None
        named = {slot_key(slot): slot.key for slot in chain}
        # If a slot's program was replaced, the old program's sites do not belong here.
        current: dict[SlotKey, SiteTerms] = {}
        for source in counting.current * sites:
            for slot, terms in source.layout.sites.items():
                current.setdefault(slot, terms)
        self._sited = {
            (slot, terms.name): named[slot]
            for slot, terms in current.items()
            if slot in named and (terms.terms or terms.apart)
        }
        self._sites = {sited: counting.sites.get(sited, {}) for sited in self._sited}
        self._maps: list[CountedMap] = []
        with contextlib.ExitStack() as held:
            for source in counting.sources:
                try:
                    with bpf.map_by_id(source.map_id) as fd:
                        counted = CountedMap(fd, source.layout)
                except OSError as error:
                    raise bpf.refusal(error, f"the counters (map {source.map_id}) can't be read") from error
                held.callback(counted.close)
                self._maps.append(counted)
            self._held = held.pop_all()

    def read(self) -> Sample:
        first, *others = (counted.read(self._slots) for counted in self._maps)
        rows = first if self._base is None else _sums(self._base, first)
        for more in others:
            rows = _sums(rows, more)
        verdict, *counts = rows
        by_key = dict(zip(self._keys, counts, strict=True))
        by_site = self._by_site() if self._sited else {}
        return Sample(time.monotonic(), by_key, verdict if self._whole else None, by_site)

    def read_cpus(self) -> tuple[SlotCounts, ...]:
        """The chain's verdicts by CPU, without totals from retired maps, whose CPU is unknown. Components
        with their own counters don't know the chain's verdicts.
        """
        if not self._whole:
            return ()
        readings = [counted.read_cpus() for counted in self._maps]
        return tuple(reduce(SlotCounts.plus, rows) for rows in zip(*readings, strict=True))

    def _by_site(self) -> dict[str, SiteCounts]:
        totals = self._sites
        for counted in self._maps:
            more = counted.read_sites()
            totals = {sited: sites_sum(some, more.get(sited, {})) for sited, some in totals.items()}
        return {key: totals[sited] for sited, key in self._sited.items()}

    def close(self) -> None:
        self._held.close()


class _Joined(Closing):
    """The components' own counters, plus the rest as counted by a tracer; ``why`` there is none."""

    def __init__(self, own: DispatcherCounters, tracer: CounterReader | None, why: str = "") -> None:
        self._own, self._tracer, self._why = own, tracer, why

    def read(self) -> Sample:
        own = replace(self._own.read(), why=self._why)
        if self._tracer is None:
            return own
        rest = self._tracer.read()
        return replace(rest, slots={**rest.slots, **own.slots}, sites=own.sites)

    def read_cpus(self) -> tuple[SlotCounts, ...]:
        return ()

    def close(self) -> None:
        self._own.close()
        if self._tracer is not None:
            self._tracer.close()


def _sums(rows: list[SlotCounts], more: list[SlotCounts]) -> list[SlotCounts]:
    return [row.plus(other) for row, other in zip(rows, more, strict=True)]


def open_counters(running: Running, *, attach: bool = True, sites: bool = True) -> CounterReader | None:
    """A reader of what is counted on an interface; None if nothing runs or nothing is to be counted.

    For a freplace chain and for a single foreign program, this attaches a tracer to whatever has no counters
    of its own. That takes some milliseconds, and each packet pays for it until the reader is closed
    (`trace.counting_cost`). With ``attach=False``, only existing counters are read: built-in ones, or those
    that somebody pinned. Without ``sites``, verdict sites are not read. After an edit, open the new reader
    before closing the old one, so that counts continue.

    Raises NotFound if the chain is gone; PermissionDenied, Unsupported and KernelRefused, with the reason, if
    there are no built-in counters and nothing can be attached; InvalidInput if the chain's description of its
    counters can't be read.
    """
    own = None
    if running.counting is not None and running.chain is not None:
        own = DispatcherCounters(running.counting, running.chain, sites=sites)
        if running.linkage_facts.counts_chain:
            return own
    from .trace import is_traced, targets, trace  # needs libbpf, which most callers don't

    if not attach and not is_traced(running):
        return own
    if own is None:
        return trace(running) if targets(running) else None
    try:
        return _Joined(own, trace(running))
    except NotFound:
        own.close()
        raise
    except XdpChainError as error:
        return _Joined(own, None, str(error))
