# SPDX-License-Identifier: Apache-2.0
"""Rates from two samples of counters, and the trend behind a sparkline. Pure.

A rate is known only if both samples have the slot and no counter went backwards: counters of a fresh row
start at zero, and a difference across that would be a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import field
from operator import sub
from typing import Final, Generic, Protocol, TypeVar

from xdpchain.frozen import frozen

__all__ = ["CODES", "NOTHING", "Counts", "Rates", "Reading", "Snapshot", "Trends", "between"]

K = TypeVar("K", bound=Hashable)

CODES = 6
"""Return codes counted: the five actions, and everything else as the sixth."""

TREND_SECONDS = 120

Which = tuple[int, int]
"""A verdict site of a slot (its index), and a return code."""


class Counts(Protocol):
    """Packets and bytes by return code (xdpchain.observe.counters.SlotCounts)."""

    @property
    def packets(self) -> Sequence[int]: ...
    @property
    def bytes(self) -> Sequence[int]: ...


class Snapshot(Protocol):
    """All counters of a chain at one time (xdpchain.observe.counters.Sample)."""

    @property
    def at(self) -> float: ...
    @property
    def slots(self) -> Mapping[str, Counts]: ...
    @property
    def verdict(self) -> Counts | None: ...
    @property
    def sites(self) -> Mapping[str, Mapping[Which, tuple[int, int]]]: ...


@frozen
class Rates:
    """Packets and bytes by return code: per second, or as totals."""

    packets: tuple[float, ...]
    bytes: tuple[float, ...]

    @property
    def all_packets(self) -> float:
        return sum(self.packets)

    @property
    def all_bytes(self) -> float:
        return sum(self.bytes)

    @classmethod
    def totals(cls, counts: Counts) -> Rates:
        """The current counters."""
        return cls(tuple(counts.packets), tuple(counts.bytes))


NOTHING: Final = Rates((0.0,) * CODES, (0.0,) * CODES)
"""No packets a second: of most rows at most times."""


@frozen
class Reading:
    """What one look at the counters gives: totals, and rates if there was a look before.

    ``seconds`` is the time between the two looks, 0.0 after the first. ``verdict_totals`` is None if the
    chain's own verdicts are not counted. ``sites`` and ``site_rates``: packets and bytes of each counted
    verdict site, by slot.
    """

    seconds: float
    totals: Mapping[str, Rates]
    rates: Mapping[str, Rates]
    verdict_totals: Rates | None
    verdict_rates: Rates | None
    sites: Mapping[str, Mapping[Which, tuple[int, int]]] = field(default_factory=dict)
    site_rates: Mapping[str, Mapping[Which, tuple[float, float]]] = field(default_factory=dict)


def _rate(before: Counts, after: Counts, seconds: float) -> Rates | None:
    packets = tuple(map(sub, after.packets, before.packets))
    octets = tuple(map(sub, after.bytes, before.bytes))
    if seconds <= 0 or min(packets) < 0 or min(octets) < 0:
        return None
    if not any(packets) and not any(octets):
        return NOTHING
    return Rates(tuple(n / seconds for n in packets), tuple(n / seconds for n in octets))


def between(before: Snapshot | None, after: Snapshot) -> Reading:
    """The reading from two samples; ``before`` is None for the first."""
    seconds = after.at - before.at if before else 0.0
    rates: dict[str, Rates] = {}
    verdict = None
    if before is not None:
        for key, counts in after.slots.items():
            earlier = before.slots.get(key)
            rate = _rate(earlier, counts, seconds) if earlier is not None else None
            if rate is not None:
                rates[key] = rate
        if before.verdict is not None and after.verdict is not None:
            verdict = _rate(before.verdict, after.verdict, seconds)
    totals = {key: Rates.totals(counts) for key, counts in after.slots.items()}
    end = Rates.totals(after.verdict) if after.verdict is not None else None
    sites = _site_rates(before, after, seconds) if before is not None and seconds > 0 else {}
    return Reading(seconds, totals, rates, end, verdict, after.sites, sites)


def _site_rates(
    before: Snapshot, after: Snapshot, seconds: float
) -> dict[str, dict[Which, tuple[float, float]]]:
    found: dict[str, dict[Which, tuple[float, float]]] = {}
    for key, now in after.sites.items():
        earlier = before.sites.get(key)
        if earlier is None:
            continue
        changes = {
            which: tuple(b - a for a, b in zip(earlier.get(which, (0, 0)), counts, strict=True))
            for which, counts in now.items()
        }
        if all(min(change) >= 0 for change in changes.values()):
            found[key] = {
                w: (packets / seconds, octets / seconds) for w, (packets, octets) in changes.items()
            }
    return found


@frozen
class CpuCounts:
    """What a chain returned on one CPU: totals, and rates if there was a look before."""

    cpu: int
    totals: Rates
    rates: Rates | None


def between_cpus(before: Sequence[Counts], after: Sequence[Counts], seconds: float) -> Iterator[CpuCounts]:
    """For each CPU; ``before`` is empty for the first look."""
    for cpu, counts in enumerate(after):
        rates = _rate(before[cpu], counts, seconds) if len(before) == len(after) else None
        yield CpuCounts(cpu, Rates.totals(counts), rates)


class Trends(Generic[K]):
    """The last two minutes of packets per second, by slot key or whatever else has a rate; the only mutable
    object here.
    """

    def __init__(self) -> None:
        self._values: dict[K, deque[float]] = {}

    def note(self, rates: Mapping[K, float], known: Container[K]) -> None:
        """Append rates, and forget what is no longer ``known``."""
        for key in [k for k in self._values if k not in known]:
            del self._values[key]
        for key, rate in rates.items():
            self._values.setdefault(key, deque(maxlen=TREND_SECONDS)).append(rate)

    def add(self: Trends[str], reading: Reading) -> None:
        """Append the rates of a reading's slots."""
        self.note({key: rates.all_packets for key, rates in reading.rates.items()}, reading.totals)

    def all(self) -> Mapping[K, tuple[float, ...]]:
        """Packets per second, oldest first."""
        return {key: tuple(values) for key, values in self._values.items()}
