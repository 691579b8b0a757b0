# SPDX-License-Identifier: Apache-2.0
"""The thread that reads and writes maps for the maps screen: it runs requests one after the other, and
reports the results to the screen.
"""

from __future__ import annotations

import queue
from collections.abc import Callable

from textual.message import Message

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.maps import (
    Cursor,
    EntryChange,
    MapSummary,
    MapTable,
    Shape,
    TableEntry,
    maps_of,
    matches,
    open_map,
)
from xdpchain.model.running import Running

__all__ = ["Entries", "Listed", "Looked", "MapReader", "Planned", "Trouble", "Written"]

SCANNED = 20_000
"""Maximum entries a filter examines."""
FOUND = 500
"""Maximum entries a filter finds."""


class Listed(Message):
    """The maps of the slot."""

    def __init__(self, maps: tuple[MapSummary, ...]) -> None:
        super().__init__()
        self.maps = maps


class Entries(Message):
    """Entries of a map: the first ones, or (``more``) the following ones. ``next``: there are still more;
    ``note``: what was left out, as text.
    """

    def __init__(
        self,
        name: str,
        shape: Shape,
        entries: tuple[TableEntry, ...],
        next: Cursor | None,
        more: bool,
        note: str = "",
    ) -> None:
        super().__init__()
        self.name, self.shape, self.entries = name, shape, entries
        self.next, self.more, self.note = next, more, note


class Looked(Message):
    """The current state of some entries, by raw key; None for one that is gone."""

    def __init__(self, name: str, now: dict[bytes, TableEntry | None]) -> None:
        super().__init__()
        self.name, self.now = name, now


class Planned(Message):
    """A change that passed the checks, or why it can't be made."""

    def __init__(self, change: EntryChange | XdpChainError) -> None:
        super().__init__()
        self.change = change


class Written(Message):
    """A change that was made in a map, or why it failed."""

    def __init__(self, name: str, change: EntryChange, error: XdpChainError | None) -> None:
        super().__init__()
        self.name, self.change, self.error = name, change, error


class Trouble(Message):
    """Something could not be read."""

    def __init__(self, name: str | None, error: XdpChainError) -> None:
        super().__init__()
        self.name, self.error = name, error


@frozen
class _Job:
    name: str | None
    work: Callable[[MapReader], Message]


class MapReader:
    """``run`` is the worker's body; everything else queues a request."""

    def __init__(self, running: Running, slot: int | None, post: Callable[[Message], object]) -> None:
        self._running, self._slot, self._post = running, slot, post
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._table: MapTable | None = None
        self._open_as: str | None = None

    def run(self) -> None:
        """Run requests until told to end."""
        try:
            while (job := self._jobs.get()) is not None:
                try:
                    self._post(job.work(self))
                except XdpChainError as error:
                    self._close()
                    self._post(Trouble(job.name, error))
                except Exception as error:  # shown to the user: this thread has no other way to report
                    self._close()
                    self._post(Trouble(job.name, XdpChainError("Reading the map failed", repr(error))))
        finally:
            self._close()

    def end(self) -> None:
        self._jobs.put(None)

    def list_maps(self) -> None:
        """Request the slot's maps: `Listed`."""
        self._jobs.put(_Job(None, lambda self: Listed(maps_of(self._running, self._slot))))

    def first(self, name: str, needle: str) -> None:
        """Request the first entries, or those that match: `Entries`."""
        self._jobs.put(_Job(name, lambda self: self._first(name, needle)))

    def following(self, name: str, cursor: Cursor) -> None:
        """Request the next page: `Entries`."""

        def work(self: MapReader) -> Message:
            table = self._opened(name)
            page = table.page(cursor)
            return Entries(name, table.shape, page.entries, page.next, True)

        self._jobs.put(_Job(name, work))

    def look(self, name: str, keys: tuple[bytes, ...]) -> None:
        """Request these entries again: `Looked`."""

        def work(self: MapReader) -> Message:
            return Looked(name, dict(zip(keys, self._opened(name).look(keys), strict=True)))

        self._jobs.put(_Job(name, work))

    def plan(self, name: str, raw_key: bytes | None, key: str, value: str, shown: str | None) -> None:
        """Request a check of a write, to an existing key or one given as text: `Planned`. ``shown`` is the
        text that was edited.
        """

        def work(self: MapReader) -> Message:
            table = self._opened(name)
            try:
                where = table.key_of(key) if raw_key is None else raw_key
                return Planned(table.change(where, value, shown=shown))
            except XdpChainError as error:
                return Planned(error)

        self._jobs.put(_Job(name, work))

    def removal(self, name: str, raw_key: bytes) -> None:
        """Request a check of a deletion: `Planned`."""

        def work(self: MapReader) -> Message:
            try:
                return Planned(self._opened(name).removal(raw_key))
            except XdpChainError as error:
                return Planned(error)

        self._jobs.put(_Job(name, work))

    def write(self, name: str, change: EntryChange) -> None:
        """Make a change: `Written`."""

        def work(self: MapReader) -> Message:
            try:
                self._opened(name).write(change)
            except XdpChainError as error:
                return Written(name, change, error)
            return Written(name, change, None)

        self._jobs.put(_Job(name, work))

    def _first(self, name: str, needle: str) -> Entries:
        table = self._opened(name)
        if not needle.strip():
            page = table.page()
            return Entries(name, table.shape, page.entries, page.next, False)
        found: list[TableEntry] = []
        note = ""
        for n, entry in enumerate(table.entries()):
            if n == SCANNED:
                note = f"only the first {SCANNED} entries were searched"
                break
            if matches(entry, needle):
                if len(found) == FOUND:
                    note = f"the first {FOUND} that match"
                    break
                found.append(entry)
        return Entries(name, table.shape, tuple(found), None, False, note)

    def _opened(self, name: str) -> MapTable:
        if self._open_as != name or self._table is None:
            self._close()
            self._table = open_map(self._running, self._slot, name)
            self._open_as = name
        return self._table

    def _close(self) -> None:
        if self._table is not None:
            self._table.close()
        self._table = self._open_as = None
