# SPDX-License-Identifier: Apache-2.0
"""Per-slot, per-action counters of a running chain, read through mmap: no system call a reading.

A row of the counters has six codes: the five actions, and one for any other return code. A slot keeps its
row through every edit, so samples of successive chains can be subtracted; the verdict row counts what the
dispatcher returned. Each number is written by one CPU alone; a reading may fall between a packet's count
and its bytes.

Static and tail-call chains count by themselves. Where components are linked by freplace, and for a single
program of somebody else, counting is attached from outside while somebody looks: see `trace`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from xdpchain.model.counts import CODES, FOREIGN, CounterReader, Sample, SlotCounts
from xdpchain.model.running import Running
from xdpchain.sys import bpf

from .counter_rows import CounterRows

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
    milliseconds, and each packet pays for it until the reader is closed (`trace.counting_cost`). Open the
    new reader before you close the old one, after the chain was edited by whomever: counts then go on
    where they were.

    Raises NotFound if the chain is gone; PermissionDenied, Unsupported and KernelRefused, with the reason,
    where nothing can be attached.
    """
    if running.counters_map is not None and running.chain is not None:
        rows = {slot.key: slot.row for slot in running.chain.slots if slot.row is not None}
        return DispatcherCounters(running.counters_map, rows)
    from .trace import targets, trace  # it takes libbpf, which most callers never need

    return trace(running) if targets(running) else None
