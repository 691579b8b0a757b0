# SPDX-License-Identifier: Apache-2.0
"""The clock that all deadlines are told by: CLOCK_BOOTTIME of the machine, in every time namespace.

Nobody can set that clock, and it goes on in sleep. But a time namespace (5.6 on) shows it with an offset:
what one process wrote down, another would read hours early or late. /proc tells the offset.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["boot_clock", "unknown_offset"]

_PROC = Path("/proc/self")
_offsets: dict[int, float] = {}


def boot_clock() -> float:
    """Seconds since the machine booted, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - _offset()


def unknown_offset() -> str:
    """Why this process can't tell the machine's clock; empty where it can.

    The kernel tells the offsets of the namespace that *children* will have. A process that has just made one
    for them stays in its own, of which nothing is told.
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
