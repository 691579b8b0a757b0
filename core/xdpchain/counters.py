# SPDX-License-Identifier: Apache-2.0
"""Per-slot, per-action counters of a running chain, read through mmap: no system call a reading.

A row of the counters has six codes: the five actions, and one for any other return code. A slot keeps its
row through every edit, so samples of successive chains can be subtracted; the verdict row counts what the
dispatcher returned. Each number is written by one CPU alone; a reading may fall between a packet's count
and its bytes.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from operator import add
from types import TracebackType

from .actions import ALL_ACTIONS, Action
from .linkage.counting import counter_layout
from .running import Running
from .sys import bpf
from .sys.libbpf import possible_cpus

__all__ = ["CODES", "CounterReader", "Sample", "SlotCounts", "open_counters"]

CODES = len(ALL_ACTIONS) + 1
"""Codes of a row: the actions by number, then all others."""


@dataclass(frozen=True, slots=True)
class SlotCounts:
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

    def since(self, earlier: SlotCounts) -> SlotCounts:
        """What was counted after ``earlier``."""
        return SlotCounts(
            tuple(now - then for now, then in zip(self.packets, earlier.packets, strict=True)),
            tuple(now - then for now, then in zip(self.bytes, earlier.bytes, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading: ``at`` on the monotonic clock in seconds, counts by slot key, and the dispatcher's own
    verdicts.
    """

    at: float
    slots: Mapping[str, SlotCounts]
    verdict: SlotCounts


class CounterReader:
    """The counters of one chain, mapped into memory. Stays valid (and still) after the chain is gone."""

    def __init__(self, map_id: int, rows: Mapping[str, int]) -> None:
        """Map the counters with this map id; ``rows`` tells each slot's row. Raises NotFound,
        PermissionDenied.
        """
        self._stride, self._row, codes = counter_layout()
        self._words = codes * 2
        self._rows = dict(rows)
        self._cpus = possible_cpus()
        size = self._stride * self._cpus
        try:
            with bpf.map_by_id(map_id) as fd:
                self._map = mmap.mmap(
                    fd.fileno(), -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, prot=mmap.PROT_READ
                )
        except OSError as error:
            raise bpf.refusal(error, f"the counters (map {map_id}) can't be read") from error
        self._view = memoryview(self._map).cast("Q")

    def read(self) -> Sample:
        """All counters, summed over CPUs."""
        counts = {key: self._counts(row) for key, row in self._rows.items()}
        return Sample(time.monotonic(), counts, self._counts(0))

    def _counts(self, row: int) -> SlotCounts:
        stride, words = self._stride // 8, self._words
        start = row * self._row // 8
        total = self._view[start : start + words].tolist()
        for cpu in range(1, self._cpus):
            at = start + cpu * stride
            total = list(map(add, total, self._view[at : at + words].tolist()))
        return SlotCounts(tuple(total[0::2]), tuple(total[1::2]))

    def close(self) -> None:
        self._view.release()
        self._map.close()

    def __enter__(self) -> CounterReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_counters(running: Running) -> CounterReader | None:
    """A reader of what the chain counts; None where nothing counts. Raises NotFound if the chain is gone."""
    if running.counters_map is None or running.chain is None:
        return None
    rows = {slot.key: slot.row for slot in running.chain.slots if slot.row is not None}
    return CounterReader(running.counters_map, rows)
