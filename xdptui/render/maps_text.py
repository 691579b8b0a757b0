# SPDX-License-Identifier: Apache-2.0
"""Maps and their entries as plain tables. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from xdpchain.maps import MapSummary, Shape, TableEntry

__all__ = ["entries_table", "fill_text", "maps_table"]

WIDEST_KEY = 48


def maps_table(maps: Sequence[MapSummary]) -> str:
    """One line per map; below it where it is pinned, who else uses it, and its limitations."""
    if not maps:
        return "  no maps"
    rows = [("NAME", "ID", "TYPE", "KEY", "VALUE", "ENTRIES")]
    rows += [
        (
            bpf_map.shape.name,
            str(bpf_map.shape.id),
            bpf_map.shape.type,
            f"{bpf_map.shape.key_size} B",
            f"{bpf_map.shape.value_size} B",
            fill_text(bpf_map),
        )
        for bpf_map in maps
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for i, row in enumerate(rows):
        lines.append(
            "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
        if i:
            lines += [f"      {note}" for note in _notes(maps[i - 1])]
    return "\n".join(lines)


def fill_text(summary: MapSummary) -> str:
    """Used entries out of the maximum."""
    if summary.entries is None:
        return "-"
    if summary.shape.variables:
        return f"{summary.entries} variable{'s' * (summary.entries != 1)}"
    return f"{'' if summary.complete else 'over '}{summary.entries} of {summary.shape.max_entries}"


def _notes(summary: MapSummary) -> list[str]:
    notes = [f"pinned: {path}" for path in summary.pins]
    if summary.users:
        notes.append("also used by " + ", ".join(summary.users))
    if summary.shape.closed:
        notes.append(f"not browsable: {summary.shape.closed}")
    elif summary.shape.locked:
        notes.append(f"read-only: {summary.shape.locked}")
    return notes


def entries_table(shape: Shape, entries: Sequence[TableEntry]) -> str:
    """One line per entry. Per-CPU values are shown as their sum, if they have one."""
    if not entries:
        return f"{shape.name} is empty"
    head = "VARIABLE" if shape.variables else "KEY"
    what = "SUM OVER CPUS" if shape.per_cpu and entries[0].value is not None else "VALUE"
    width = min(WIDEST_KEY, max(len(head), *(len(entry.label) for entry in entries)))
    lines = [f"{head.ljust(width)}  {what}"]
    lines += [f"{entry.label.ljust(width)}  {entry.text()}" for entry in entries]
    return "\n".join(lines)
