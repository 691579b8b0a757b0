# SPDX-License-Identifier: Apache-2.0
"""How the rows of a terminal are shared among the panes. Pure.

Designed at 80x24; with fewer rows panes shrink, then go: the waterfall first, then the list of interfaces,
then the key hints, then the banner. The chain is what the program is for, and stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdptui.view.waterfall_lines import rows_needed

__all__ = ["Layout", "share"]

LIST = (4, 3, 2)
"""Rows for the interfaces while others lack some, heading included."""
INSPECTOR = 5
"""The least rows of the pane that says more of the slot under the cursor; it takes what is left over."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of each pane, headings included; 0 means not shown. ``lines`` is 1 or 2 lines a slot."""

    banner: int
    interfaces: int
    chain: int
    waterfall: int
    inspector: int
    keys: int
    lines: int


def share(height: int, interfaces: int, slots: int) -> Layout:
    """Rows for ``interfaces`` listed and ``slots`` in the chain (rows of removed slots included)."""
    keys = 1 if height >= 6 else 0
    banner = 1 if height >= 4 else 0
    room = max(1, height - keys - banner)
    inspects = slots > 0
    slots = max(1, slots)
    most_listed = max(2, interfaces + 1)
    full, middle, short = (rows + 1 for rows in rows_needed(slots))
    # Totals under each slot are worth more than a waterfall with a line for each outcome.
    wishes = ((2, full), (2, middle), (1, full), (1, middle), (1, short))
    for least in LIST:
        for lines, fall in wishes:
            listed = min(least, most_listed)
            left = room - listed - (slots * lines + 1) - fall
            if left >= 0:
                more = min(left, most_listed - listed)
                listed, left = listed + more, left - more
                # What nobody needs stays with the pane at the bottom, so that the tables above don't float.
                inspector, fall = (left, fall) if inspects and left >= INSPECTOR else (0, fall + left)
                return Layout(banner, listed, slots * lines + 1, fall, inspector, keys, lines)
    listed = 2 if room >= 6 else 0
    chain = room - listed
    if chain > slots + 1 and listed:
        more = min(chain - slots - 1, most_listed - listed)
        listed, chain = listed + more, chain - more
    return Layout(banner, listed, chain, 0, 0, keys, 1)
