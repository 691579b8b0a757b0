# SPDX-License-Identifier: Apache-2.0
"""How the rows of a terminal are shared among the panes. Pure.

Designed at 80x24; with fewer rows panes shrink, then go: the waterfall first, then the list of interfaces,
then the key hints, then the banner. The chain is what the program is for, and stays.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Layout", "share"]

WIDE = 110
"""Columns from which the tables show more."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of each pane, headings included; 0 means not shown. ``lines`` is 1 or 2 lines a slot."""

    banner: int
    interfaces: int
    chain: int
    waterfall: int
    keys: int
    lines: int
    wide: bool


def share(width: int, height: int, interfaces: int, slots: int) -> Layout:
    """Rows for ``interfaces`` listed and ``slots`` in the chain (rows of removed slots included)."""
    keys = 1 if height >= 6 else 0
    banner = 1 if height >= 4 else 0
    room = max(1, height - keys - banner)
    slots = max(1, slots)

    list_least = 2 if room >= 6 else 0
    list_most = max(2, interfaces + 1)
    fall_full, fall_short = slots + 7, 3
    chain_one, chain_two = slots + 1, 2 * slots + 1

    chain = min(chain_one, room - list_least)
    left = room - chain - list_least
    lines = 1
    fall = 0
    if left >= fall_short and room >= 12:
        fall = fall_short
        left -= fall
    listed = list_least
    if listed:
        more = min(list_most, 4) - listed
        more = max(0, min(more, left))
        listed, left = listed + more, left - more
    # Totals under each slot are worth more than a full waterfall; both fit at 80x24 with three slots.
    if left >= chain_two - chain_one and chain == chain_one:
        lines, left, chain = 2, left - (chain_two - chain_one), chain_two
    if fall and left >= fall_full - fall:
        left -= fall_full - fall
        fall = fall_full
    if listed:
        more = max(0, min(list_most - listed, left))
        listed, left = listed + more, left - more
    if fall:
        # What nobody needs stays with the pane at the bottom, so that the tables above don't float.
        fall += left
    else:
        chain += left
    return Layout(banner, listed, chain, fall, keys, lines, width >= WIDE)
