# SPDX-License-Identifier: Apache-2.0
"""How many processors the kernel keeps values for, and the sum of these."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from xdpchain.advice import Do, advise
from xdpchain.errors import Unsupported
from xdpchain.sys.bpf import BpfError, cpus_in_a_value

__all__ = ["added_up", "possible_cpus"]

POSSIBLE = Path("/sys/devices/system/cpu/possible")


@cache
def possible_cpus() -> int:
    """The number of possible CPUs, and so of elements in a per-CPU value. If /sys does not say it, a map is
    used to ask the kernel. Raises Unsupported.
    """
    try:
        ranges = [part.partition("-") for part in POSSIBLE.read_text().split(",")]  # as in 0-3,8
        return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
    except (OSError, ValueError):
        pass
    try:
        return cpus_in_a_value()
    except BpfError as error:
        what = "The number of CPUs can't be determined"
        raise Unsupported(what, "/sys is not mounted", advise(Do.MOUNT_SYSFS), detail=str(error)) from error


def added_up(view: mmap.mmap, starts: Iterable[int], size: int) -> bytes:
    """The sum, word by word, of arrays of 64-bit words, ``size`` bytes each, at these places.

    They are added as numbers as long as the array, so a word that overflows carries into another: a counter
    would take centuries. Where there are dozens of CPUs, this costs a third of adding word by word.
    """
    total = sum(int.from_bytes(view[at : at + size], sys.byteorder) for at in starts)
    return (total & (1 << 8 * size) - 1).to_bytes(size, sys.byteorder)
