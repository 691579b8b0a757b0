# SPDX-License-Identifier: Apache-2.0
"""Per-slot, per-action counters of a running chain, read through mmap: no system call a reading.

There are six codes: the five actions, and one for any other return code. Each number is written by one CPU
alone; a reading may fall between a packet's count and its bytes. What a chain counted before it was edited
is part of its counts (`model.counting`), so samples of successive chains can be subtracted.

Static and tail-call chains count by themselves. Where components are linked by freplace, and for a single
program of somebody else, counting is attached from outside while somebody looks: see `trace`.
"""

from __future__ import annotations

import contextlib
import time
from types import TracebackType

from xdpchain.linkage.counting import CountedMap, sites_sum
from xdpchain.model.chain import Chain
from xdpchain.model.counting import Counting, slot_key
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


class DispatcherCounters:
    """The counters of a chain that counts by itself."""

    def __init__(self, counting: Counting, chain: Chain) -> None:
        """Map them. Raises NotFound, PermissionDenied, InvalidInput."""
        self._keys = tuple(slot.key for slot in chain)
        self._slots = tuple(map(slot_key, chain))
        # What can't change any more.
        base = [counting.verdict, *(counting.slots.get(slot, SlotCounts()) for slot in self._slots)]
        self._base = base if any(row.total_packets for row in base) else None
        layout = counting.own_layout
        named = {slot_key(slot): slot.key for slot in chain}
        # Of a slot whose program was another one before, that one's sites are none of this.
        self._sited = {
            (slot, some.name): named[slot]
            for slot, some in (layout.sites.items() if layout is not None else ())
            if slot in named and some.terms
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
        return Sample(time.monotonic(), by_key, verdict, self._by_site() if self._sited else {})

    def _by_site(self) -> dict[str, SiteCounts]:
        totals = self._sites
        for counted in self._maps:
            more = counted.read_sites()
            totals = {sited: sites_sum(some, more.get(sited, {})) for sited, some in totals.items()}
        return {key: totals[sited] for sited, key in self._sited.items()}

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> DispatcherCounters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sums(rows: list[SlotCounts], more: list[SlotCounts]) -> list[SlotCounts]:
    return [row.plus(other) for row, other in zip(rows, more, strict=True)]


def open_counters(running: Running) -> CounterReader | None:
    """A reader of what is counted on an interface; None where nothing runs, or where nothing is to count.

    For a freplace chain and for a single foreign program this attaches the tracer, which takes some
    milliseconds, and each packet pays for it until the reader is closed (`trace.counting_cost`). Open the
    new reader before you close the old one, after the chain was edited by whomever: counts then go on
    where they were.

    Raises NotFound if the chain is gone; PermissionDenied, Unsupported and KernelRefused, with the reason,
    where nothing can be attached; InvalidInput where the chain's own description of its counters can't be
    read.
    """
    if running.counting is not None and running.chain is not None:
        return DispatcherCounters(running.counting, running.chain)
    from .trace import targets, trace  # it takes libbpf, which most callers never need

    return trace(running) if targets(running) else None
