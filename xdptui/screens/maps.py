# SPDX-License-Identifier: Apache-2.0
"""The maps of a slot: the list on the left, the entries of the one under the cursor on the right, live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from xdpchain.errors import XdpChainError
from xdpchain.maps import Cursor, EntryChange, MapSummary, Shape, TableEntry, cpu_text
from xdpchain.maps.values import Plain
from xdpchain.model.running import Running
from xdptui.screens.dialog import button, paragraph
from xdptui.screens.failure import Failure
from xdptui.screens.map_edit import MapEdit, WriteConfirm
from xdptui.screens.two_panes import TwoPanes
from xdptui.view.cells import Cell, left
from xdptui.view.map_lines import entry_cells, entry_head, key_width, map_cells, map_facts
from xdptui.widgets.filter_line import FilterLine
from xdptui.widgets.row_list import RowList
from xdptui.words.advice import told
from xdptui.workers.map_reader import Entries, Listed, Looked, MapReader, Planned, Trouble, Written

__all__ = ["MapsScreen"]

PERIOD = 1.0
"""Seconds between two looks at what is visible."""
MOST = 10_000
"""Maximum entries held."""


class MapsScreen(TwoPanes[None]):
    """``slot`` None: the maps of a single program without a chain; ``read_only``: why writing is not
    allowed, empty if it is; ``runs`` says whether the program still runs; ``edited`` is told each written
    entry: where, and what.
    """

    DEFAULT_CSS = """
    MapsScreen {
        #box { width: 100%; height: 100%; padding: 0; }
        #body { height: 1fr; padding: 0; }
        #panes { height: 1fr; }
        #maps { width: 28; height: 1fr; margin: 0 1 0 0; }
        #side { width: 1fr; height: 1fr; }
        #entries { height: 1fr; }
        #facts { height: auto; max-height: 7; color: $foreground 70%; }
        #buttons { margin: 0; }
        CellGrid { background: $surface; }
    }
    """
    panes = ("#maps", "#side")
    upright = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", show=False),
        Binding("e", "edit", show=False),
        Binding("n", "new", show=False),
        Binding("delete,x", "delete", show=False),
        Binding("greater_than_sign", "following", show=False),
        Binding("r", "again", show=False),
        Binding("tab,shift+tab", "other", show=False),
    ]
    first = "#maps"

    def __init__(
        self,
        running: Running,
        slot: int | None,
        name: str,
        *,
        read_only: str = "",
        runs: Callable[[], bool] = lambda: True,
        edited: Callable[[str, str], None] = lambda _where, _what: None,
    ) -> None:
        super().__init__()
        self._runs, self._edited = runs, edited
        self._read_only = read_only
        self._reader = MapReader(running, slot, self.post_message)
        self._netns = running.interface.netns
        self._maps: tuple[MapSummary, ...] = ()
        self._name: str | None = None
        self._shape: Shape | None = None
        self._entries: list[TableEntry] = []
        self._changed: set[bytes] = set()
        self._new: bytes | None = None
        """The key of an entry that was just added: the cursor goes to it."""
        self._next: Cursor | None = None
        self._needle = ""
        self._note = "reading…"
        self._waiting = False
        self._planned: asyncio.Future[EntryChange | XdpChainError] | None = None
        self._held_back: Cursor | None = None
        """Where to read on for the entries that are not held."""
        where = f"slot {slot} on " if slot is not None else ""
        self._where = f"{name}, {where}{running.interface.name}"
        self.heading = f"Maps of {self._where}"

    def body(self) -> ComposeResult:
        with Horizontal(id="panes"):
            yield RowList(id="maps")
            with Vertical(id="side"):
                yield FilterLine(id="needle", placeholder="filter: words in key or value; esc clears")
                yield RowList(id="entries")
        yield paragraph("", id="facts")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")
        yield button("Filter (/)", "filter")
        yield button("Edit (e)", "edit")
        yield button("Add (n)", "new")
        yield button("Delete (x)", "delete")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#needle").display = False
        self.run_worker(self._reader.run, thread=True, group="maps", exit_on_error=False)
        self._reader.list_maps()
        self.set_interval(PERIOD, self._tick)
        self._show()

    def on_unmount(self) -> None:
        self._reader.end()

    # Display

    def _show(self) -> None:
        maps = self.query_one("#maps", RowList)
        maps.present(
            len(self._maps),
            lambda row, width: map_cells(self._maps[row], width),
            empty=self._note if not self._maps else "",
            head=lambda width, position: (left(f" MAP {position}", width - 9), Cell(" ENTRIES ")),
            sorts={
                "map": lambda row: self._maps[row].shape.name,
                "-entries": lambda row: self._maps[row].entries or 0,
            },
        )
        entries = self.query_one("#entries", RowList)
        keys = key_width(self._entries, entries.size.width)
        shape = self._shape
        key = "variable" if shape and shape.variables else "key"
        value = "sum over cpus" if shape and shape.per_cpu else "value"
        entries.present(
            len(self._entries),
            lambda row, width: entry_cells(
                self._entries[row], self._entries[row].raw_key in self._changed, keys, width
            ),
            empty=self._note if self._maps else "",
            head=lambda width, position: entry_head(
                self._shape, keys, width, position + "+" * bool(self._next)
            ),
            sorts={
                key: lambda row: _sortable(self._entries[row].key),
                value: lambda row: _sortable(self._entries[row].value),
            },
        )
        self._show_facts()

    def _show_facts(self) -> None:
        summary = self._map()
        facts = map_facts(summary) if summary else []
        if not self._runs():
            facts.insert(0, ("The program no longer runs: this is what its maps hold", "warn"))
        if self._note and self._entries:
            facts.append((self._note, "warn"))
        entry = self._entry()
        if entry is not None and self.query_one("#entries").has_focus:
            # In full, for what does not fit in the list: two lines, at most four.
            facts.insert(0, (f"{entry.label} = {entry.text(300)}", ""))
            if entry.cpus and entry.value is not None:
                facts.insert(1, (cpu_text(entry, 300), ""))
        lines = [Content.styled(f" {text}", "$warning" if style else "") for text, style in facts[:5]]
        self.query_one("#facts", Static).update(Content("\n").join(lines))
        closed = self._shape is None or bool(self._shape.locked or self._read_only)
        self.query_one("#edit", Button).disabled = closed or entry is None
        kind = self._shape.type if self._shape else ""
        grows = "hash" in kind or kind in ("lpm_trie", "devmap", "cpumap")
        self.query_one("#new", Button).disabled = closed or not grows
        self.query_one("#delete", Button).disabled = closed or entry is None or not grows

    def _map(self) -> MapSummary | None:
        return self.query_one("#maps", RowList).under(self._maps)

    def _entry(self) -> TableEntry | None:
        return self.query_one("#entries", RowList).under(self._entries)

    # Reading

    def _choose(self) -> None:
        """Read the map under the cursor of the list."""
        summary = self._map()
        name = summary.shape.name if summary else None
        if summary is None or name == self._name:
            return
        self._name, self._shape, self._entries, self._next = name, summary.shape, [], None
        self._changed.clear()
        self.query_one("#entries", RowList).row = 0
        if summary.shape.closed:
            self._note = f"Not browsable: {summary.shape.closed}."
        else:
            self._note = "reading…"
            self._ask()
        self._show()

    def _ask(self) -> None:
        if self._name is not None and self._shape is not None and not self._shape.closed:
            self._reader.first(self._name, self._needle)
            self._waiting = True

    def _tick(self) -> None:
        """Once a second: read the whole page if it is all there is, otherwise what is visible."""
        if self._waiting or self._name is None or self._shape is None or self._shape.closed:
            return
        if self._next is None and len(self._entries) <= 256 and not self._needle:
            self._ask()
            return
        rows = self.query_one("#entries", RowList).shown_rows
        keys = tuple(self._entries[row].raw_key for row in rows)
        if keys:
            self._waiting = True
            self._reader.look(self._name, keys)

    def on_listed(self, event: Listed) -> None:
        self._maps = event.maps
        self._note = "" if event.maps else "It uses no maps."
        self._show()
        self._choose()

    def on_entries(self, event: Entries) -> None:
        self._waiting = False
        if event.name != self._name:
            return
        before = {entry.raw_key: entry for entry in self._entries}
        if event.more:
            self._entries += [entry for entry in event.entries if entry.raw_key not in before]
        else:
            self._changed = _changed(before, event.entries)
            self._entries = list(event.entries)
        self._next = event.next if len(self._entries) < MOST else None
        self._held_back = event.next if self._next is None else None
        self._shape = event.shape
        self._note = event.note
        if event.next is None and not event.more and not self._needle:
            self._maps = tuple(
                replace(bpf_map, entries=len(event.entries), complete=True)
                if bpf_map.shape.name == event.name
                else bpf_map
                for bpf_map in self._maps
            )
        if event.next is not None and self._next is None:
            self._note = f"{len(self._entries)} entries shown: > shows more, / filters all"
        if not self._entries:
            self._note = f"Nothing matches {self._needle!r}." if self._needle else "It is empty."
        self._show()
        self._to_new()

    def _to_new(self) -> None:
        """Put the cursor on the entry that was added, if it is among those held."""
        new, self._new = self._new, None
        place = next((i for i, entry in enumerate(self._entries) if entry.raw_key == new), None)
        if place is not None:
            entries = self.query_one("#entries", RowList)
            entries.row = place
            self.set_focus(entries)
            self._show()

    def on_looked(self, event: Looked) -> None:
        self._waiting = False
        if event.name != self._name:
            return
        before = {entry.raw_key: entry for entry in self._entries}
        now = [entry for entry in event.now.values() if entry is not None]
        self._changed = _changed(before, now)
        self._entries = [
            kept for entry in self._entries if (kept := event.now.get(entry.raw_key, entry)) is not None
        ]
        self._show()

    def on_trouble(self, event: Trouble) -> None:
        self._waiting = False
        if event.name is None or event.name == self._name:
            self._note = told(event.error, keys=True)
            self._entries, self._next = [], None
            self._show()

    # Navigation

    @on(RowList.Moved, "#maps")
    def another_map(self) -> None:
        self._choose()

    @on(RowList.Chosen, "#maps")
    def into(self) -> None:
        self.set_focus(self.query_one("#entries"))

    @on(RowList.Moved, "#entries")
    def another_entry(self, event: RowList.Moved) -> None:
        if event.last and self._next is not None and self._name is not None and not self._waiting:
            self._waiting = True
            self._reader.following(self._name, self._next)
        self._show_facts()

    @on(RowList.Chosen, "#entries")
    def chosen(self) -> None:
        self.action_edit()

    def on_descendant_focus(self) -> None:
        self._show_facts()

    def action_other(self) -> None:
        self.show_both()
        maps, entries = self.query_one("#maps"), self.query_one("#entries")
        self.set_focus(entries if maps.has_focus else maps)

    def action_again(self) -> None:
        self._reader.list_maps()
        self._ask()

    # The filter

    def action_filter(self) -> None:
        self.query_one(FilterLine).open()

    @on(Input.Changed, "#needle")
    def typed(self, event: Input.Changed) -> None:
        if event.value != self._needle:
            self._needle = event.value
            self._ask()

    def action_back(self) -> None:
        if self._needle:  # escape first clears the filter
            self.on_filter_line_closed(FilterLine.Closed(clear=True))
        else:
            super().action_back()

    def on_filter_line_closed(self, event: FilterLine.Closed) -> None:
        self.query_one(FilterLine).close(event.clear)
        self.set_focus(self.query_one("#entries"))

    # Changing a value

    def action_edit(self) -> None:
        entry = self._entry()
        if entry is not None and self._may_write():
            self._begin(entry)

    def action_new(self) -> None:
        if self._may_write() and not self.query_one("#new", Button).disabled:
            self._begin(None)

    def _may_write(self) -> bool:
        why = self._read_only or (self._shape.locked if self._shape else "no map is chosen")
        if why:
            self.notify(f"Read-only: {why}")
        return not why

    def _begin(self, entry: TableEntry | None) -> None:
        self.run_worker(self._edit_flow(entry), group="edit", exclusive=True)

    async def _edit_flow(self, entry: TableEntry | None) -> None:
        shape, name = self._shape, self._name
        assert shape is not None
        assert name is not None

        async def plan(key: str, value: str, shown: str | None) -> EntryChange | XdpChainError:
            return await self._planned_by(
                lambda: self._reader.plan(name, entry.raw_key if entry else None, key, value, shown)
            )

        dialog = MapEdit(shape, entry, plan)
        while (change := await self.app.push_screen_wait(dialog)) is not None:
            if change.new == change.old:
                self.notify("It already has that value", timeout=2)
                return
            if await self._write(name, change):
                return
            not_yet = "Not written. Enter asks again, esc leaves it as it is."
            dialog = MapEdit(shape, entry, plan, typed=dialog.typed, trouble=not_yet)

    async def _planned_by(self, ask: Callable[[], None]) -> EntryChange | XdpChainError:
        """The reader's answer for a proposed change."""
        self._planned = asyncio.get_running_loop().create_future()
        ask()
        return await self._planned

    def on_planned(self, event: Planned) -> None:
        if self._planned is not None and not self._planned.done():
            self._planned.set_result(event.change)

    def action_delete(self) -> None:
        entry, name = self._entry(), self._name
        if entry is not None and name is not None and self._may_write():
            self.run_worker(self._delete_flow(name, entry), group="edit", exclusive=True)

    async def _delete_flow(self, name: str, entry: TableEntry) -> None:
        change = await self._planned_by(lambda: self._reader.removal(name, entry.raw_key))
        if isinstance(change, EntryChange):
            if not await self._write(name, change):
                self.notify(f"{change.label} stays", timeout=2)
        else:
            self.app.push_screen(Failure(change, "It can't be deleted", netns=self._netns))

    async def _write(self, name: str, change: EntryChange) -> bool:
        """Write it if the user agrees; returns whether they did."""
        if self._shape is None or not await self.app.push_screen_wait(WriteConfirm(self._shape.name, change)):
            return False
        self._reader.write(name, change)
        return True

    def action_following(self) -> None:
        """The next entries of a map that is too large to hold at once."""
        if self._name is not None and self._held_back is not None and not self._waiting:
            self._waiting = True
            self._entries, cursor = [], self._held_back
            self._held_back = None
            self.query_one("#entries", RowList).row = 0
            self._reader.following(self._name, cursor)

    def on_written(self, event: Written) -> None:
        if event.error is not None:
            self.app.push_screen(Failure(event.error, netns=self._netns))
        else:
            change, gone = event.change, event.change.new is None
            text = "deleted" if gone else f"= {change.new}"
            self.notify(f"{change.label} {text}", timeout=3)
            was = "added" if change.old is None else f"was {change.old}"
            self._edited(f"{event.name} of {self._where}", f"{change.label} {text} ({was})")
            self._new = change.raw_key if change.old is None else None
        self._ask()


def _changed(before: dict[bytes, TableEntry], now: Sequence[TableEntry]) -> set[bytes]:
    """Keys whose values changed."""
    return {
        entry.raw_key
        for entry in now
        if (was := before.get(entry.raw_key)) is not None
        and (was.value, was.cpus) != (entry.value, entry.cpus)
    }


def _sortable(value: Plain | None) -> tuple[int, float, str]:
    """Numbers in numeric order, then everything else by its text."""
    if isinstance(value, int | float):
        return 0, value, ""
    return 1, 0, str(value)
