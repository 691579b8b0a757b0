# SPDX-License-Identifier: Apache-2.0
"""Maps and their entries as shown on the maps screen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdptui.view.cells import Cell, left, right

if TYPE_CHECKING:
    from xdpchain.maps import MapSummary, Shape, TableEntry

__all__ = ["entry_cells", "entry_head", "key_width", "map_cells", "map_facts"]

SAMPLE = 100
"""Entries examined to size the columns."""


def map_cells(summary: MapSummary, width: int) -> tuple[Cell, ...]:
    """A map in the list: its name, and how full it is."""
    fill = _fill(summary)
    return (
        left(f" {summary.shape.name}", width - len(fill) - 1, "name"),
        right(fill, len(fill), "note"),
        Cell(" "),
    )


def _fill(summary: MapSummary) -> str:
    if summary.entries is None:
        return "-"
    if summary.shape.variables:
        return f"{summary.entries} var"
    return f"{summary.entries}{'' if summary.complete else '+'}/{summary.shape.max_entries}"


def map_facts(summary: MapSummary) -> list[tuple[str, str]]:
    """Lines about a map, each with its style name."""
    shape = summary.shape
    sizes = f"{shape.key_size}→{shape.value_size} B"
    facts = [(f"{shape.type}  id {shape.id}  {sizes}  room for {shape.max_entries}", "")]
    if summary.pins:
        facts.append((f"pinned: {', '.join(summary.pins)}", ""))
    if summary.users:
        facts.append((f"also used by {', '.join(summary.users)}", ""))
    if shape.closed:
        facts.append((f"not browsable: {shape.closed}", "warn"))
    elif shape.locked:
        facts.append((f"read-only: {shape.locked}", "warn"))
    return facts


def key_width(entries: Sequence[TableEntry], width: int) -> int:
    """The room for keys in a list of this width."""
    longest = max((len(entry.label) for entry in entries), default=0)
    values = max((len(entry.text(width)) for entry in entries[:SAMPLE]), default=0)
    return max(9, min(longest, max(width // 2, width - values - 3))) + 2


def entry_head(shape: Shape | None, keys: int, width: int, position: str) -> tuple[Cell, ...]:
    """The line above the entries."""
    if shape is None:
        return (left("", width),)
    what = "SUM OVER CPUS" if shape.per_cpu else "VALUE"
    room = max(0, width - keys - len(position) - 1)
    return (
        left(" VARIABLE" if shape.variables else " KEY", keys),
        left(what, room),
        right(position, len(position)),
        Cell(" "),
    )


def entry_cells(entry: TableEntry, changed: bool, keys: int, width: int) -> tuple[Cell, ...]:
    """An entry; ``changed``: its value changed a moment ago."""
    room = max(0, width - keys)
    return (
        left(f" {entry.label}", keys, "label"),
        left(entry.text(room + 1), room, "changed" if changed else ""),
    )
