# SPDX-License-Identifier: Apache-2.0
"""Per-slot, per-action counters of a running chain, read through mmap: no system call a reading.

A row of the counters has six codes: the five actions, and one for any other return code. A slot keeps its
row through every edit, so samples of successive chains can be subtracted; the verdict row counts what the
dispatcher returned. Each number is written by one CPU alone; a reading may fall between a packet's count
and its bytes.

Static and tail-call chains count by themselves. Where components are linked by freplace, and for a single
program of somebody else, counting is attached from outside while somebody looks: see `xdpchain.trace`.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from operator import add
from types import TracebackType
from typing import NamedTuple, Protocol

from .actions import ALL_ACTIONS, Action
from .linkage.counting import ROW_SIZE, STRIDE
from .running import Running
from .sys import bpf
from .sys.libbpf import possible_cpus

__all__ = [
    "CODES",
    "FOREIGN",
    "CounterReader",
    "CounterRows",
    "DispatcherCounters",
    "Sample",
    "SlotCounts",
    "open_counters",
]

CODES = len(ALL_ACTIONS) + 1
"""Codes of a row: the actions by number, then all others."""

FOREIGN = "foreign"
"""The key in `Sample.slots` of a single program that is no dispatcher."""


class SlotCounts(NamedTuple):
    """Packets and bytes by return code; index 5 counts codes that are no action. Bytes are the packet's
    length when the slot returned.
    """

    packets: tuple[int, ...] = (0,) * CODES
    bytes: tuple[int, ...] = (0,) * CODES

    @property
    def total_packets(self) -> int:
        return sum(self.packets)

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes)

    def of(self, action: Action) -> tuple[int, int]:
        """(packets, bytes) of one action."""
        return self.packets[action], self.bytes[action]

    def plus(self, other: SlotCounts) -> SlotCounts:
        """The sum of both."""
        return SlotCounts(
            tuple(map(add, self.packets, other.packets)), tuple(map(add, self.bytes, other.bytes))
        )

    def since(self, earlier: SlotCounts) -> SlotCounts:
        """What was counted after ``earlier``."""
        return SlotCounts(
            tuple(now - then for now, then in zip(self.packets, earlier.packets, strict=True)),
            tuple(now - then for now, then in zip(self.bytes, earlier.bytes, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading: ``at`` on the monotonic clock in seconds, counts by slot key, and the dispatcher's own
    verdicts. A single foreign program has the one key `FOREIGN`, and its counts are the verdict too.
    """

    at: float
    slots: Mapping[str, SlotCounts]
    verdict: SlotCounts


class CounterReader(Protocol):
    """What reads a chain's counters until it is closed."""

    def read(self) -> Sample:
        """All counters, summed over CPUs."""

    def close(self) -> None:
        """Let go of the counters."""

    def __enter__(self) -> CounterReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@cache
def _reading(rows: tuple[int, ...]) -> tuple[struct.Struct, tuple[tuple[slice, slice], ...]]:
    """How to read these rows of one CPU: as 64-bit words up to the last of them, and where each row's are."""
    words = ROW_SIZE // 8
    starts = [row * words for row in rows]
    slices = tuple((slice(at, at + words, 2), slice(at + 1, at + words, 2)) for at in starts)
    return struct.Struct(f"={max(starts) + words}Q"), slices


class CounterRows:
    """A counters map, mapped into memory. Stays valid (and still) after what counts there is gone."""

    def __init__(self, counters: bpf.Fd) -> None:
        """Raises OSError."""
        self._cpus = possible_cpus()
        size = -(-STRIDE * self._cpus // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map = mmap.mmap(counters.fileno(), size, prot=mmap.PROT_READ)

    def counts(self, row: int) -> SlotCounts:
        """One row, summed over CPUs."""
        return self.read((row,))[0]

    def read(self, rows: tuple[int, ...]) -> list[SlotCounts]:
        """These rows, summed over CPUs."""
        # One reading a CPU, as far as the last row: far cheaper than one a row.
        block, slices = _reading(rows)
        total = block.unpack_from(self._map)
        for cpu in range(1, self._cpus):
            total = tuple(map(add, total, block.unpack_from(self._map, cpu * STRIDE)))
        return [SlotCounts(total[packets], total[octets]) for packets, octets in slices]

    def close(self) -> None:
        self._map.close()


class DispatcherCounters:
    """The counters of a chain that counts by itself."""

    def __init__(self, map_id: int, rows: Mapping[str, int]) -> None:
        """Map the counters with this map id; ``rows`` tells each slot's row. Raises NotFound,
        PermissionDenied.
        """
        self._slots = tuple(rows)
        self._order = (0, *rows.values())
        try:
            with bpf.map_by_id(map_id) as fd:
                self._rows = CounterRows(fd)
        except OSError as error:
            raise bpf.refusal(error, f"the counters (map {map_id}) can't be read") from error

    def read(self) -> Sample:
        verdict, *counts = self._rows.read(self._order)
        return Sample(time.monotonic(), dict(zip(self._slots, counts, strict=True)), verdict)

    def close(self) -> None:
        self._rows.close()

    def __enter__(self) -> DispatcherCounters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_counters(running: Running) -> CounterReader | None:
    """A reader of what is counted on an interface; None where nothing runs, or where nothing is to count.

    For a freplace chain and for a single foreign program this attaches the tracer, which takes some
    milliseconds and costs some nanoseconds a packet until the reader is closed. Open the new reader before
    you close the old one, after the chain was edited by whomever: counts then go on where they were.

    Raises NotFound if the chain is gone; PermissionDenied, Unsupported and KernelRefused, with the reason,
    where nothing can be attached.
    """
    if running.counters_map is not None and running.chain is not None:
        rows = {slot.key: slot.row for slot in running.chain.slots if slot.row is not None}
        return DispatcherCounters(running.counters_map, rows)
    from .trace import targets, trace  # it takes libbpf, which most callers never need

    return trace(running) if targets(running) else None
