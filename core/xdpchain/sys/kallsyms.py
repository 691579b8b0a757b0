# SPDX-License-Identifier: Apache-2.0
"""Find the kernel function that an address belongs to, and where a function begins."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cache, lru_cache

__all__ = ["functions_at", "kernel_address", "kernel_function"]


def kernel_function(address: int) -> str:
    """Its name, without compiler suffixes (``.constprop.0``); "" if the kernel hides its addresses."""
    starts, names = _functions()
    place = bisect_right(starts, address) - 1
    return names[place].partition(".")[0] if place >= 0 and starts[0] else ""


@cache
def kernel_address(name: str) -> int | None:
    """Where a function begins; None: there is none, or the kernel hides its addresses."""
    return next((address for address, found in _symbols() if found == name and address), None)


@lru_cache(maxsize=64)
def functions_at(addresses: frozenset[int]) -> dict[int, str]:
    """The functions that begin at these addresses; those that are known."""
    return {address: name for address, name in _symbols() if address in addresses}


@cache
def _functions() -> tuple[list[int], list[str]]:
    found = sorted(_symbols())
    return [address for address, _ in found], [name for _, name in found]


def _symbols() -> Iterator[tuple[int, str]]:
    """The kernel's functions by their addresses; all 0 if it hides them. A file of some megabytes."""
    try:
        with open("/proc/kallsyms", encoding="ascii", errors="replace") as lines:
            for line in lines:
                address, kind, name = line.split()[:3]
                if kind in "tT":
                    yield int(address, 16), name
    except (OSError, ValueError):
        return
