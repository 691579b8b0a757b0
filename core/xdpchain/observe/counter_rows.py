# SPDX-License-Identifier: Apache-2.0
"""A counters map in memory: rows of packets and bytes, one element per CPU, read without system calls."""

from __future__ import annotations

import mmap
import struct
from functools import cache

from xdpchain.linkage.counting import ROW_SIZE, STRIDE
from xdpchain.model.counts import SlotCounts
from xdpchain.sys import bpf
from xdpchain.sys.cpus import added_up, possible_cpus

__all__ = ["CounterRows"]


@cache
def _reading(rows: tuple[int, ...]) -> tuple[struct.Struct, tuple[tuple[slice, slice], ...]]:
    """How to read these rows of a CPU: a struct of 64-bit words up to the last row, and each row's slices."""
    words = ROW_SIZE // 8
    starts = [row * words for row in rows]
    slices = tuple((slice(at, at + words, 2), slice(at + 1, at + words, 2)) for at in starts)
    return struct.Struct(f"={max(starts) + words}Q"), slices


class CounterRows:
    """A memory-mapped counters map. Stays valid (and constant) after its program is gone."""

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
        block, slices = _reading(rows)
        # Up to the last row: far cheaper than row by row.
        starts = range(0, self._cpus * STRIDE, STRIDE)
        total = block.unpack(added_up(self._map, starts, block.size))
        return [SlotCounts(total[packets], total[octets]) for packets, octets in slices]

    def close(self) -> None:
        self._map.close()
