# SPDX-License-Identifier: Apache-2.0
"""Maps and their entries as JSON documents, described in docs/cli.md. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .entries import TableEntry
    from .listing import MapSummary

__all__ = ["entry_document", "summary_document"]


def entry_document(entry: TableEntry) -> dict[str, Any]:
    """``{"key", "value"}``. For a per-CPU map ``value`` is the sum (null if the values can't be added) and
    ``cpus`` lists one value per CPU. ``refers`` names the target of a reference.
    """
    document: dict[str, Any] = {"key": entry.key, "value": entry.value}
    if entry.cpus:
        document["cpus"] = list(entry.cpus)
    if entry.note:
        document["refers"] = entry.note
    return document


def summary_document(summary: MapSummary) -> dict[str, Any]:
    """An element of ``maps --json``."""
    shape = summary.shape
    return {
        "name": shape.name,
        "id": shape.id,
        "type": shape.type,
        "key_size": shape.key_size,
        "value_size": shape.value_size,
        "max_entries": shape.max_entries,
        "flags": shape.flags,
        "frozen": shape.frozen,
        "entries": summary.entries,
        "complete": summary.complete,
        "pins": list(summary.pins),
        "users": list(summary.users),
        "not_browsable": shape.closed or None,
        "read_only": shape.locked or None,
    }
