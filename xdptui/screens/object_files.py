# SPDX-License-Identifier: Apache-2.0
"""Find an object file: a path with completion, and a list of files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, TypeVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widgets import Input

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.objects.objfile import ObjectFile
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.screens.object_paths import (
    Entry,
    begun_anew,
    completion,
    contents,
    matching,
    split,
    usual_places,
)
from xdptui.view.file_lines import file_cells, file_head
from xdptui.widgets.row_list import RowList

__all__ = ["Found", "ObjectFiles", "PathInput"]

Answer = TypeVar("Answer")

Found = ObjectFile | XdpChainError
"""An object file, or why it can't be used."""

UP = ".."

PAUSE = 0.15
"""Seconds without a key until the disk is asked."""


class _Paths(Suggester):
    """Completes a path by what the dialog has found there."""

    def __init__(self, found: Callable[[], Awaitable[Sequence[Entry]]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._found = found

    async def get_suggestion(self, value: str) -> str | None:
        return completion(value, await self._found())


@frozen
class _Place:
    """A directory and what was found in it."""

    directory: str = ""
    found: tuple[Entry, ...] = ()
    usual: tuple[str, ...] = ()


def _look(value: str) -> tuple[_Place, bool]:
    """The directory of a path, and whether the path names a file. May take long."""
    directory = split(value)[0]
    place = _Place(directory, contents(directory), usual_places())
    return place, os.path.isfile(os.path.expanduser(value.strip()))


class PathInput(Input):
    """A path with completion: tab, end and the right arrow accept the suggestion; down moves to the list
    below. An absolute path typed or pasted behind what is there takes its place.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", show=False),
        Binding("end", "complete", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, value: str, suggester: Suggester, *, id: str, select_on_focus: bool = False) -> None:
        super().__init__(value, id=id, suggester=suggester, compact=True, select_on_focus=select_on_focus)

    def replace(self, text: str, start: int, end: int) -> None:
        super().replace(text, start, end)
        path = begun_anew(self.value)
        if path != self.value:
            self.value = path
            self.cursor_position = len(path)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "complete" or bool(self._suggestion)  # otherwise the keys keep their usual meaning

    def action_complete(self) -> None:
        self.value = self._suggestion
        self.cursor_position = len(self.value)


class _FileList(RowList):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("backspace,left", "screen.parent", show=False)]


class ObjectFiles(Dialog[Answer]):
    """A dialog that begins with a file. ``directory`` is where it looks now, and where it looked last.

    Directories and objects are read in a thread once typing pauses; the next key cancels that. Keys only
    filter what is known.
    """

    DEFAULT_CSS = """
    ObjectFiles {
        .line { height: 1; }
        .name { width: 12; color: $foreground 70%; }
        #path { width: 1fr; }
    }
    """
    first = "#path"

    def __init__(self, directory: str | None = None) -> None:
        super().__init__()
        self.directory = directory or os.getcwd()
        self._entries: tuple[Entry, ...] = ()
        self._rows: tuple[Entry, ...] = ()
        self._listed = ""
        self._place = _Place()
        self._settled = asyncio.Event()
        self._then: Callable[[], None] | None = None
        """What a key asked for while the path was still being looked at."""

    def path_line(self) -> ComposeResult:
        """The line with the path."""
        with Horizontal(classes="line"):
            yield paragraph("Object file", classes="name")
            yield PathInput(self.directory.rstrip("/") + "/", _Paths(self._completions), id="path")

    def file_list(self) -> ComposeResult:
        """The list of files, under the name of their directory."""
        yield _FileList(id="files")

    def read_object(self, path: str) -> Found:
        """Read a file; called in a thread."""
        raise NotImplementedError

    def open_object(self, found: Found) -> None:
        """Called with what was read of the file that the path names."""
        raise NotImplementedError

    def into_object(self) -> bool:
        """Enter on the path: move on to what is in the object; False if none is open."""
        raise NotImplementedError

    def close_object(self) -> None:
        """Called when the path no longer names a file."""
        raise NotImplementedError

    def no_object(self, error: XdpChainError) -> None:
        """Called when the path to use leads nowhere."""
        raise NotImplementedError

    def on_mount(self) -> None:
        super().on_mount()
        path = self.query_one("#path", Input)
        path.cursor_position = len(path.value)
        self._look(0)

    @property
    def settled(self) -> bool:
        """Whether what is shown is that of the path."""
        return self._settled.is_set()

    async def _completions(self) -> Sequence[Entry]:
        await self._settled.wait()
        return self._entries

    @on(Input.Changed, "#path")
    def typed(self) -> None:
        self._look(PAUSE)

    def _look(self, pause: float, *, opens: bool = False) -> None:
        """Show what is known of the path at once, the rest after ``pause`` seconds without another key.
        ``opens``: even if it is no regular file.
        """
        value = self.query_one("#path", Input).value
        self._settled.clear()
        self._then = None
        self.close_object()
        if split(value)[0] == self._place.directory:
            self._list(value)
        self._look_at(value, pause, opens)

    @work(group="path", exclusive=True)
    async def _look_at(self, value: str, pause: float, opens: bool) -> None:
        await asyncio.sleep(pause)
        self._place, is_file = await asyncio.to_thread(_look, value)
        if self.closed:
            return
        self._list(value)
        if is_file or opens:
            path = os.path.expanduser(value.strip())
            self.directory = os.path.dirname(os.path.abspath(path))
            found = await asyncio.to_thread(self.read_object, path)
            if self.closed:
                return
            self.open_object(found)
        self._settled.set()
        then, self._then = self._then, None
        if then is not None:
            then()

    def when_settled(self, then: Callable[[], None]) -> None:
        """Do this for the path as it is now: at once, or when it has been looked at."""
        if self.settled:
            then()
        else:
            self._then = then

    @on(Input.Submitted, "#path")
    def entered(self) -> None:
        self.when_settled(self._entered)

    def _entered(self) -> None:
        value = os.path.expanduser(self.query_one("#path", Input).value.strip())
        if self.into_object():
            return
        if os.path.isdir(value) and not value.endswith("/"):
            self._enter(value)
        elif os.path.exists(value) and not os.path.isdir(value):
            self._look(0, opens=True)
        elif self._entries:
            self.set_focus(self.query_one("#files"))
        else:
            self.refuse_path()

    def refuse_path(self) -> None:
        """Say why the path leads to no object."""
        value = self.query_one("#path", Input).value.strip()
        if os.path.isdir(os.path.expanduser(value)):
            self.no_object(XdpChainError(f"{value} is a directory", todo="Choose an object file in it"))
        else:
            self.no_object(XdpChainError(f"There is no {os.path.expanduser(value) or 'such file'}"))

    def _list(self, value: str) -> None:
        """List the parent directory, completions of the path, and usual places."""
        directory, begin = split(value)
        files = self.query_one("#files", RowList)
        elsewhere = directory != self._listed
        if elsewhere:
            files.forget_filter()
            self._listed = directory
        here = os.path.abspath(os.path.expanduser(value.strip()))
        whole = any(entry.path == here and not entry.directory for entry in self._place.found)
        self._entries = matching(self._place.found, "" if whole else begin)
        places = (Entry(place, True) for place in self._place.usual)
        rows = (Entry(UP, True), *self._entries, *places)
        if rows == self._rows and not elsewhere:
            return
        self._rows = rows
        first = 1 if self._entries else 0
        files.row = next((i for i, entry in enumerate(self._entries, 1) if entry.path == here), first)
        now, found = time.time(), len(self._entries)
        files.present(
            len(rows),
            lambda row, width: file_cells(rows[row], width, now, whole=row > found),
            head=lambda width, position: file_head("objects", directory, width, position),
            sorts={
                "objects": lambda row: (row > found, not rows[row].directory, rows[row].path),
                "-size": lambda row: (row <= found, rows[row].size or 0),
                "age": lambda row: (row > found, -(rows[row].changed or 0)),
            },
            words=lambda row: rows[row].label,
            fixed=1,
        )

    def _enter(self, directory: str) -> None:
        self.directory = directory
        self._go(directory.rstrip("/") + "/")

    def _go(self, value: str) -> None:
        """Look at another path at once."""
        path = self.query_one("#path", Input)
        with path.prevent(Input.Changed):
            path.value = value
        path.cursor_position = len(value)
        self._look(0)

    def action_parent(self) -> None:
        self._enter(os.path.dirname(os.path.abspath(self.directory)))

    @on(RowList.Chosen, "#files")
    def chosen(self, event: RowList.Chosen) -> None:
        entry = self._rows[event.row]
        if entry.path == UP:
            self.action_parent()
        elif entry.directory:
            self._enter(entry.path)
        else:
            self._go(entry.path)
