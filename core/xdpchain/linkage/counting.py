# SPDX-License-Identifier: Apache-2.0
"""The counters map of a counting dispatcher: its layout, who has which row, and how it is handed on.

Row 0 counts what the dispatcher returned. A slot keeps its row for as long as it is in the chain. There are
twenty, so a chain of ten can become another chain of ten without two slots sharing one.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence

from xdpchain.errors import InvalidInput
from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import possible_cpus

__all__ = ["COUNTERS", "ROWS", "assign_rows", "clear_rows", "counter_layout", "counters_for", "make_counters"]

COUNTERS = "xdptui_counters"
ROWS, CODES = 21, 6
ROW_SIZE = CODES * 16
STRIDE = ROWS * ROW_SIZE + 32
"""Bytes of one CPU's counters: ``struct cpu_counts`` of bpf/include/counters.h."""

BPF_F_MMAPABLE = 1 << 10


def counter_layout() -> tuple[int, int, int]:
    """Bytes from one CPU's counters to the next, bytes of a row, and codes in a row."""
    return STRIDE, ROW_SIZE, CODES


def assign_rows(candidate: Chain, running: Running) -> list[int]:
    """A counters row for each slot: its own if it runs, one that no running slot uses otherwise. Row 0 is
    the verdict.

    A slot that goes into shadow or comes out of it begins anew: what it would have dropped and what it did
    drop are never mixed.
    """
    own = _rows(running)
    free = iter(sorted(set(range(1, ROWS)) - set(own.values())))
    return [own.get((slot.key, slot.shadow)) or next(free) for slot in candidate.slots]


def _rows(running: Running) -> dict[tuple[str, bool], int]:
    return {(s.key, s.shadow): s.row for s in running.chain or () if s.row}


def make_counters() -> bpf.Fd:
    """A new counters map, all zero."""
    try:
        return bpf.map_create(
            bpf.MapType.ARRAY, 4, STRIDE, possible_cpus(), name=COUNTERS, flags=BPF_F_MMAPABLE
        )
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the counters can't be made") from error


def clear_rows(counters: bpf.Fd, rows: Sequence[int]) -> None:
    """Set rows to zero, on every CPU."""
    size = STRIDE * possible_cpus()
    with mmap.mmap(counters.fileno(), -(-size // mmap.PAGESIZE) * mmap.PAGESIZE) as view:
        for at in range(0, size, STRIDE):
            for row in rows:
                start = at + row * ROW_SIZE
                view[start : start + ROW_SIZE] = bytes(ROW_SIZE)


def counters_for(candidate: Chain, running: Running, held: contextlib.ExitStack) -> bpf.Fd | None:
    """The counters map: the running chain's, with the rows of new slots emptied, or a new one."""
    if not candidate.counters:
        return None
    if running.counters_map is None:
        return held.enter_context(make_counters())
    fd = held.enter_context(_opened(running.counters_map))
    kept = set(_rows(running).values())
    clear_rows(fd, [row for row in assign_rows(candidate, running) if row not in kept])
    return fd


def _opened(number: int) -> bpf.Fd:
    """The counters that a manifest names, if they are some: they will be written to."""
    try:
        fd = bpf.map_by_id(number)
        info = bpf.map_info(fd)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the running chain's counters can't be opened") from error
    shape = (info.name, info.type, info.value_size, info.max_entries)
    if shape != (COUNTERS, bpf.MapType.ARRAY, STRIDE, possible_cpus()):
        fd.close()
        raise InvalidInput(f"map {number} can't be the running chain's counters", "it has another shape")
    return fd
