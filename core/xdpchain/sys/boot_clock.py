# SPDX-License-Identifier: Apache-2.0
"""The clock behind all deadlines: the machine's CLOCK_BOOTTIME, whatever the time namespace.

It can't be set and keeps running during suspend. But a time namespace (kernel 5.6 and later) adds an
offset, so a time written by one process could be hours off for another. /proc shows the offset.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["boot_clock", "unknown_offset"]

_PROC = Path("/proc/self")
_offsets: dict[int, float] = {}


def boot_clock() -> float:
    """Seconds since the machine booted, including time suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - _offset()


def unknown_offset() -> str:
    """Why this process can't read the machine's clock; empty if it can.

    /proc shows the offsets of the time namespace that *children* will get. A process that has unshared one
    remains in its old namespace, whose offsets are not shown.
    """
    try:
        own, children = (os.readlink(_PROC / "ns" / name) for name in ("time", "time_for_children"))
    except OSError:  # a kernel without time namespaces
        return ""
    if own == children:
        return ""
    return "this process has created a time namespace for its children but is not in it"


def _offset() -> float:
    # A process keeps its time namespace; a child of fork(2) may have another.
    pid = os.getpid()
    if pid not in _offsets:
        _offsets.clear()
        _offsets[pid] = _read_offset()
    return _offsets[pid]


def _read_offset() -> float:
    if unknown_offset():
        return 0.0
    try:
        lines = (_PROC / "timens_offsets").read_text().splitlines()
    except OSError:
        return 0.0
    for line in lines:
        clock, seconds, nanoseconds = line.split()
        if clock == "boottime":
            return int(seconds) + int(nanoseconds) / 1e9
    return 0.0
