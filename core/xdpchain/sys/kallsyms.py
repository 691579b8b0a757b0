# SPDX-License-Identifier: Apache-2.0
"""Find the kernel function that an address belongs to."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache

__all__ = ["kernel_function"]


def kernel_function(address: int) -> str:
    """Its name, without compiler suffixes (``.constprop.0``); "" if the kernel hides its addresses."""
    starts, names = _functions()
    place = bisect_right(starts, address) - 1
    return names[place].partition(".")[0] if place >= 0 and starts[0] else ""


@cache
def _functions() -> tuple[list[int], list[str]]:
    found = []
    try:
        with open("/proc/kallsyms", encoding="ascii", errors="replace") as lines:
            for line in lines:
                address, kind, name = line.split()[:3]
                if kind in "tT":
                    found.append((int(address, 16), name))
    except (OSError, ValueError):
        return [], []
    found.sort()
    return [address for address, _ in found], [name for _, name in found]
