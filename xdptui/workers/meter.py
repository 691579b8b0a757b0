# SPDX-License-Identifier: Apache-2.0
"""The open counters of all chains, and the last reading of each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from xdpchain.frozen import frozen
from xdpchain.model.counts import SlotCounts
from xdpchain.model.running import Running
from xdptui.words.advice import told
from xdptui.words.rates import CpuCounts, Reading, Trends, between, between_cpus

if TYPE_CHECKING:
    from xdpchain.observe.counters import CounterReader, Sample

__all__ = ["BETWEEN_LOOKS", "Known", "Meter", "Opened", "open_missing"]

BETWEEN_LOOKS = 0.15
"""Seconds between two readings below which a rate depends more on their timing than on the traffic: for
viewers that look when something happens rather than at a set interval.
"""

Identity = tuple[int, tuple[int, ...], str, int, tuple[int, ...]]
Known = tuple[Identity, bool]
"""A chain, and whether it is traced."""


@frozen
class Opened:
    """Counters opened by a worker: a reader (None if nothing counts), or why there is none.

    ``traced``: counted from outside while the reader is open; ``cost`` is what that adds to a packet that
    passes all slots, in ns, as measured on this machine.
    """

    identity: Identity
    reader: CounterReader | None
    why: str = ""
    traced: bool = False
    cost: int | None = None


def identity(running: Running) -> Identity:
    """Identifies what counts there: another program, or the same one with other counter maps, needs another
    reader."""
    return *running.identity, running.counting.maps if running.counting is not None else ()


def is_traced(running: Running) -> bool:
    """Whether counting everything there needs a tracer, as not all of the chain counts by itself."""
    return bool(running.hooks) and running.counters_map is None


def open_missing(
    runnings: Iterable[Running],
    known: frozenset[Known],
    trace_only: int | None = None,
    *,
    attach: bool = True,
    sites: bool = True,
) -> tuple[Opened, ...]:
    """Open the counters of chains not ``known`` yet; for a worker, since attaching may take long.

    A tracer, if needed, is attached only on the interface with ifindex ``trace_only``, if given, and nowhere
    without ``attach``; the chain's own counters are read in any case. Without ``sites``, readings have none.
    """
    from xdpchain.errors import XdpChainError
    from xdpchain.observe.counters import open_counters

    found = []
    for running in runnings:
        here = trace_only in (None, running.interface.ifindex)
        traced = attach and here and is_traced(running)
        if not running.hooks or (identity(running), traced) in known:
            continue
        if not here and running.counting is None:
            continue  # a tracer costs packets time: attach it only while somebody looks
        try:
            reader = open_counters(running, attach=traced, sites=sites)
            found.append(
                Opened(identity(running), reader, "", traced, _cost(running) if reader and traced else None)
            )
        except XdpChainError as error:
            found.append(Opened(identity(running), None, told(error), traced))
    return tuple(found)


def _cost(running: Running) -> int | None:
    from xdpchain.errors import XdpChainError
    from xdpchain.observe.trace import counting_cost

    try:
        cost = counting_cost(running)
    except XdpChainError:
        return None
    return cost.extra_ns if cost else None


class Meter:
    """Counters by ifindex. Adopts and closes readers; ``read`` makes no system call. Within ``shortest``
    seconds it returns the last reading again.
    """

    def __init__(self, shortest: float = 0.0) -> None:
        self._shortest = shortest
        self._open: dict[int, Opened] = {}
        self._last: dict[int, Sample] = {}
        self._readings: dict[int, Reading] = {}
        self._trends: dict[int, Trends[str]] = {}
        self._cpus: dict[int, tuple[float, tuple[SlotCounts, ...]]] = {}
        self.known: frozenset[Known] = frozenset()
        """Identities of the chains whose counters are open, or known to be unavailable, and whether they are
        traced; workers may read it.
        """

    def sync(
        self, runnings: Iterable[Running], opened: Iterable[Opened], trace_only: int | None = None
    ) -> None:
        """Adopt what a worker opened; release chains that are gone, and tracers of interfaces other than
        ``trace_only`` if given.
        """
        here = {running.interface.ifindex: running for running in runnings}
        for counters in opened:
            index = counters.identity[0]
            running = here.get(index)
            if running is None or identity(running) != counters.identity:
                _close(counters)
                continue
            if index in self._open:
                _close(self._open[index])
            self._open[index] = counters
        for index in list(self._open):
            running = here.get(index)
            left = self._open[index].traced and trace_only not in (None, index)
            if left or running is None or identity(running) != self._open[index].identity:
                _close(self._open.pop(index))
                if left or running is None or not running.hooks:
                    # Samples survive a swap, since counts go on, but not an emptied hook.
                    self._last.pop(index, None)
                    self._readings.pop(index, None)
                    self._trends.pop(index, None)
        self._cpus = {index: kept for index, kept in self._cpus.items() if index in here}
        self.known = frozenset((opened.identity, opened.traced) for opened in self._open.values())

    def read(self, ifindex: int) -> Reading | None:
        """Read one interface's counters now; None if nothing counts."""
        opened = self._open.get(ifindex)
        if opened is None or opened.reader is None:
            self._readings.pop(ifindex, None)
            return None
        sample = opened.reader.read()
        last = self._last.get(ifindex)
        if last is not None and sample.at - last.at < self._shortest and ifindex in self._readings:
            return self._readings[ifindex]
        reading = between(last, sample)
        self._last[ifindex] = sample
        self._readings[ifindex] = reading
        self._trends.setdefault(ifindex, Trends()).add(reading)
        return reading

    def counts(self, ifindex: int) -> Sample | None:
        """One interface's counters now, for who wants no rates; None if nothing counts."""
        opened = self._open.get(ifindex)
        return opened.reader.read() if opened is not None and opened.reader is not None else None

    def cpus(self, ifindex: int) -> tuple[CpuCounts, ...]:
        """What the chain returned on each CPU, in total and since the last call; empty if unknown."""
        opened = self._open.get(ifindex)
        if opened is None or opened.reader is None:
            return ()
        now, rows = time.monotonic(), opened.reader.read_cpus()
        at, before = self._cpus.get(ifindex, (now, ()))
        self._cpus[ifindex] = now, rows
        return tuple(between_cpus(before, rows, now - at))

    def last(self, ifindex: int | None) -> Reading | None:
        return self._readings.get(ifindex) if ifindex is not None else None

    def trends(self, ifindex: int | None) -> Mapping[str, tuple[float, ...]]:
        trends = self._trends.get(ifindex) if ifindex is not None else None
        return trends.all() if trends else {}

    def rate(self, ifindex: int) -> float | None:
        """Packets per second through a chain, None if unknown."""
        reading = self._readings.get(ifindex)
        return reading.verdict_rates.all_packets if reading and reading.verdict_rates else None

    def rates(self) -> dict[int, float]:
        """All known rates by ifindex."""
        return {index: rate for index in self._readings if (rate := self.rate(index)) is not None}

    def lacks(self, running: Running | None) -> bool:
        """Whether counting there would need a tracer."""
        return running is not None and is_traced(running) and (identity(running), True) not in self.known

    def cost(self, ifindex: int | None) -> int | None:
        """What counting adds per packet there, in ns; None if unknown, or if the chain counts itself."""
        opened = self._open.get(ifindex) if ifindex is not None else None
        return opened.cost if opened else None

    def why(self, ifindex: int | None) -> str:
        """Why nothing counts there, if the engine gave a reason."""
        opened = self._open.get(ifindex) if ifindex is not None else None
        return opened.why if opened else ""

    def close(self) -> None:
        for opened in self._open.values():
            _close(opened)
        self._open.clear()


def _close(opened: Opened) -> None:
    if opened.reader is not None:
        opened.reader.close()
