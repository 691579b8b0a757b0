# SPDX-License-Identifier: Apache-2.0
"""``xdptui maps`` lists the maps of a chain's components; ``xdptui map`` shows one, or writes an element."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from xdpchain.maps import (
    EntryChange,
    MapSummary,
    MapTable,
    TableEntry,
    assignment,
    entry_document,
    maps_of,
    matches,
    open_map,
    summary_document,
)
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdptui.commands import options as values
from xdptui.outcome import UsageError, write
from xdptui.render.maps_text import entries_table, maps_table
from xdptui.words.printable import printable

__all__ = ["run"]

MOST = 1000
"""Entries shown unless more are requested."""
NO_CHAIN = "-"
"""Instead of a slot: the single program of an interface without a chain."""


def run(options: Namespace) -> int:
    """Run either command."""
    running = look(options.interface, options.netns)
    if options.command == "maps":
        return _list(options, running)
    with open_map(running, _slot(running, values.Which(options.slot, options.where)), options.name) as table:
        if options.set is not None or options.delete is not None:
            return _write(options, table)
        return _show(options, table)


def _slot(running: Running, which: values.Which) -> int | None:
    chain = running.chain or running.shown
    if (chain is None or not chain.slots) and not which.labels:
        return None
    if which.slot == NO_CHAIN:
        raise UsageError("say which slot", todo="`xdptui maps IF` lists them")
    return which.single(chain, running.interface)


def _list(options: Namespace, running: Running) -> int:
    chain = running.chain or running.shown
    found: list[tuple[int | None, str, tuple[MapSummary, ...]]] = []
    wanted: Sequence[int] = range(len(chain or ()))
    if options.where or (options.slot is not None and wanted):
        wanted = values.Which(options.slot, options.where).among(chain, running.interface)
    if chain is not None and chain.slots:
        found += [(i, chain.slots[i].name, maps_of(running, i)) for i in wanted]
    else:
        found.append((None, running.hook.name if running.hook else "", maps_of(running)))
    if options.json:
        slots = [
            {"slot": i, "name": name, "maps": [summary_document(bpf_map) for bpf_map in maps]}
            for i, name, maps in found
        ]
        write(json.dumps({"interface": running.interface.name, "slots": slots}))
        return 0
    parts = [
        f"{NO_CHAIN if i is None else i} {printable(name)}\n{maps_table(maps)}" for i, name, maps in found
    ]
    write("\n".join(parts))
    return 0


def _show(options: Namespace, table: MapTable) -> int:
    most = MOST if options.most is None else values.amount(options.most, "number of entries")
    needle = options.filter or ""
    kept: list[TableEntry] = []
    more = False
    for entry in table.entries():
        if matches(entry, needle):
            if len(kept) == most:
                more = True
                break
            kept.append(entry)
    if options.json:
        document: dict[str, Any] = {
            "map": {"name": table.shape.name, "id": table.shape.id, "type": table.shape.type},
            "entries": [entry_document(entry) for entry in kept],
            "complete": not more,
        }
        write(json.dumps(document))
        return 0
    if needle and not kept:
        write(f"nothing in {table.shape.name} matches {needle!r}")
        return 0
    write(entries_table(table.shape, kept))
    if more:
        write(f"… the first {most} (--most shows more, --filter fewer)")
    return 0


def _write(options: Namespace, table: MapTable) -> int:
    cpu = None if options.cpu is None else values.number(options.cpu, "CPU number")
    if options.delete is not None:
        change = table.removal(table.key_of(options.delete))
    else:
        key, value = assignment(options.set)
        change = table.change(table.key_of(key), value, cpu)
    if not options.yes:
        raise UsageError(
            f"{table.shape.name} was not written: {_words(change)}",
            "programs that use the map see it at once",
            "Add --yes to write it",
        )
    table.write(change)
    if options.json:
        write(json.dumps({"key": change.label, "old": change.old, "new": change.new}))
    else:
        write(printable(f"{table.shape.name}: {_words(change)}"))
    return 0


def _words(change: EntryChange) -> str:
    old = "(nothing)" if change.old is None else change.old
    return f"{change.label}: {old} → {'(removed)' if change.new is None else change.new}"
