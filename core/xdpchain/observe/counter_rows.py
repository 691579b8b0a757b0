# SPDX-License-Identifier: Apache-2.0
"""A counters map in memory: rows of packets and bytes, one element a CPU, read without a system call."""

from __future__ import annotations

import mmap
import struct
from functools import cache
from operator import add

from xdpchain.linkage.counting import ROW_SIZE, STRIDE
from xdpchain.model.counts import SlotCounts
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import possible_cpus

__all__ = ["CounterRows"]


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
