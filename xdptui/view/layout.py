# SPDX-License-Identifier: Apache-2.0
"""How the panes share the rows of a terminal. Pure.

Designed for 80x24. With fewer rows panes shrink, then vanish: the waterfall first, then the list of
interfaces, the key hints, the banner. The chain is what the program is for, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from itertools import pairwise

from xdpchain.frozen import frozen
from xdptui.view.waterfall_lines import rows_needed

__all__ = ["KEY_ROWS", "PANES", "Layout", "Wish", "share"]

PANES = ("interfaces", "chain", "waterfall", "inspector")
"""The panes that share the rows, from top to bottom."""

LIST = (4, 3, 2)
"""Rows for the interfaces while others lack some, heading included."""
INSPECTOR = 5
"""Minimum rows of the inspector; it gets what is left over."""
TALL, KEY_ROWS = 30, 2
"""From how many rows on the hints may have more than one row, and how many."""
LEAST = 2
"""Rows that a pane keeps when others grow: its heading and a line."""


@frozen
class Layout:
    """Rows of each pane, headings included; 0 means hidden. ``lines`` is 1 or 2 lines per slot."""

    banner: int
    interfaces: int
    chain: int
    waterfall: int
    inspector: int
    keys: int
    lines: int


@frozen
class Wish:
    """The user's changes to the panes: which are ``hidden``, which has all the room (``zoomed``, empty:
    none), and by how many rows the border below a pane was moved.
    """

    hidden: frozenset[str] = frozenset()
    zoomed: str = ""
    moved: Mapping[str, int] = field(default_factory=dict)

    def toggled(self, pane: str) -> Wish:
        """With a pane hidden or shown."""
        return replace(self, hidden=self.hidden ^ {pane}, zoomed="")

    def zooming(self, pane: str) -> Wish:
        """With one pane alone, or all of them again."""
        return replace(self, zoomed="" if self.zoomed == pane else pane)

    def grown(self, pane: str, rows: int) -> Wish:
        """With the border below a pane moved."""
        return replace(self, moved={**self.moved, pane: self.moved.get(pane, 0) + rows}, zoomed="")


NONE = Wish()


def share(
    height: int, interfaces: int, slots: int, note: int = 1, wish: Wish = NONE, keys: int = 1
) -> Layout:
    """Rows for ``interfaces`` listed and ``slots`` in the chain (removed slots included); ``note`` is the
    number of lines shown if there are no slots, ``keys`` the number of rows the hints would take.
    """
    keys = 0 if height < 6 else min(keys, KEY_ROWS) if height >= TALL else 1
    banner = 1 if height >= 4 else 0
    room = max(1, height - keys - banner)
    if slots:
        layout = _with_slots(room, interfaces, slots)
    else:
        layout = _without(room, interfaces, note)
    return _as_wished(replace(layout, banner=banner, keys=keys), wish)


def _without(room: int, interfaces: int, note: int) -> Layout:
    """Guidance is worth more than the rest of a list."""
    listed = min(max(2, interfaces + 1), max(2, room - 1 - note)) if room >= 4 else 0
    chain = min(room - listed, 1 + note)
    fall = room - listed - chain
    if fall < LEAST:
        chain, fall = chain + fall, 0
    return Layout(0, listed, chain, fall, 0, 0, 1)


def _with_slots(room: int, interfaces: int, slots: int) -> Layout:
    most_listed = max(2, interfaces + 1)
    full, middle, short = (rows + 1 for rows in rows_needed(slots))
    # Totals below each slot are worth more than a waterfall with a line per outcome.
    wishes = ((2, full), (2, middle), (1, full), (1, middle), (1, short))
    for least in LIST:
        for lines, fall in wishes:
            listed = min(least, most_listed)
            left = room - listed - (slots * lines + 1) - fall
            if left >= 0:
                more = min(left, most_listed - listed)
                listed, left = listed + more, left - more
                # Spare rows go to the pane at the bottom, so that the tables above don't float.
                inspector, fall = (left, fall) if left >= INSPECTOR else (0, fall + left)
                return Layout(0, listed, slots * lines + 1, fall, inspector, 0, lines)
    listed = 2 if room >= 6 else 0
    chain = room - listed
    if chain > slots + 1 and listed:
        more = min(chain - slots - 1, most_listed - listed)
        listed, chain = listed + more, chain - more
    return Layout(0, listed, chain, 0, 0, 0, 1)


def _as_wished(layout: Layout, wish: Wish) -> Layout:
    rows = {pane: int(getattr(layout, pane)) for pane in PANES}
    room = sum(rows.values())
    if wish.zoomed:
        rows = {pane: room if pane == wish.zoomed else 0 for pane in PANES}
    else:
        for pane in wish.hidden & rows.keys() - {"chain"}:
            rows[pane] = 0
        # The room of hidden panes goes to the last one shown.
        last = [pane for pane in PANES if rows[pane]][-1]
        rows[last] += room - sum(rows.values())
        shown = [pane for pane in PANES if rows[pane]]
        for above, below in pairwise(shown):
            by = max(LEAST - rows[above], min(wish.moved.get(above, 0), rows[below] - LEAST))
            if rows[above] + by >= LEAST and rows[below] - by >= LEAST:
                rows[above], rows[below] = rows[above] + by, rows[below] - by
    return replace(layout, **rows)
