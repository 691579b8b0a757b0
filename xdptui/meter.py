# SPDX-License-Identifier: Apache-2.0
"""The open counters of all chains, and the last reading of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xdpchain.running import Running

from .view.rates import Reading, Trends, between

if TYPE_CHECKING:
    from xdpchain.counters import CounterReader, Sample

__all__ = ["Meter", "Opened", "open_missing"]

Identity = tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Opened:
    """Counters opened by a worker: a reader (None where nothing counts), or why there is none."""

    identity: Identity
    reader: CounterReader | None
    why: str = ""


def open_missing(runnings: Iterable[Running], known: frozenset[Identity]) -> tuple[Opened, ...]:
    """Open the counters of chains that are not ``known`` yet; for a worker, since attaching may take long."""
    from xdpchain.counters import open_counters
    from xdpchain.errors import XdpChainError

    found = []
    for running in runnings:
        if not running.hooks or running.identity in known:
            continue
        try:
            found.append(Opened(running.identity, open_counters(running)))
        except XdpChainError as error:
            found.append(Opened(running.identity, None, str(error)))
    return tuple(found)


class Meter:
    """Counters by ifindex: readers are adopted and closed here; ``read`` makes no system call."""

    def __init__(self) -> None:
        self._open: dict[int, Opened] = {}
        self._last: dict[int, Sample] = {}
        self._readings: dict[int, Reading] = {}
        self._trends: dict[int, Trends] = {}
        self.known: frozenset[Identity] = frozenset()
        """Identities of the chains whose counters are open, or known to be closed; a worker may read it."""

    def sync(self, runnings: Iterable[Running], opened: Iterable[Opened]) -> None:
        """Adopt what a worker opened, and let go of chains that are gone."""
        here = {running.interface.ifindex: running for running in runnings}
        for one in opened:
            index = one.identity[0]
            running = here.get(index)
            if running is None or running.identity != one.identity:
                _close(one)
                continue
            if index in self._open:
                _close(self._open[index])
            self._open[index] = one
        for index in list(self._open):
            running = here.get(index)
            if running is None or running.identity != self._open[index].identity:
                _close(self._open.pop(index))
                if running is None or not running.hooks:
                    # The samples outlive a swap, since slots keep their rows, but not an emptied hook.
                    self._last.pop(index, None)
                    self._readings.pop(index, None)
                    self._trends.pop(index, None)
        self.known = frozenset(opened.identity for opened in self._open.values())

    def read(self, ifindex: int) -> Reading | None:
        """Look at one interface's counters now; None where nothing counts."""
        opened = self._open.get(ifindex)
        if opened is None or opened.reader is None:
            self._readings.pop(ifindex, None)
            return None
        sample = opened.reader.read()
        reading = between(self._last.get(ifindex), sample)
        self._last[ifindex] = sample
        self._readings[ifindex] = reading
        self._trends.setdefault(ifindex, Trends()).add(reading)
        return reading

    def last(self, ifindex: int | None) -> Reading | None:
        return self._readings.get(ifindex) if ifindex is not None else None

    def trends(self, ifindex: int | None) -> Mapping[str, tuple[float, ...]]:
        trends = self._trends.get(ifindex) if ifindex is not None else None
        return trends.all() if trends else {}

    def rate(self, ifindex: int) -> float | None:
        """Packets per second through a chain, None if that is not known."""
        reading = self._readings.get(ifindex)
        return reading.verdict_rates.all_packets if reading and reading.verdict_rates else None

    def rates(self) -> dict[int, float]:
        """All known rates by ifindex."""
        return {index: rate for index in self._readings if (rate := self.rate(index)) is not None}

    def why(self, ifindex: int | None) -> str:
        """Why nothing counts there, where the engine gave a reason."""
        opened = self._open.get(ifindex) if ifindex is not None else None
        return opened.why if opened else ""

    def close(self) -> None:
        for opened in self._open.values():
            _close(opened)
        self._open.clear()


def _close(opened: Opened) -> None:
    if opened.reader is not None:
        opened.reader.close()
