# SPDX-License-Identifier: Apache-2.0
"""Find an object file: a path with completion, and a list of files."""

from __future__ import annotations

import os
import time
from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input

from xdpchain.errors import XdpChainError
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.screens.object_paths import Entry, begun_anew, complete, siblings, split, usual_places
from xdptui.view.file_lines import file_cells, file_head
from xdptui.widgets.row_list import RowList

__all__ = ["ObjectFiles", "PathInput"]

Answer = TypeVar("Answer")


UP = ".."


class _Paths(Suggester):
    """Completes a path."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        return complete(value)


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
    """A dialog that begins with a file. ``directory`` is where it looks now, and where it looked last."""

    DEFAULT_CSS = """
    ObjectFiles {
        .line { height: 1; }
        .name { width: 12; color: $foreground 70%; }
        #path { width: 1fr; }
    }
    """

    def __init__(self, directory: str | None = None) -> None:
        super().__init__()
        self.directory = directory or os.getcwd()
        self._entries: tuple[Entry, ...] = ()
        self._rows: tuple[Entry, ...] = ()
        self._listed = ""

    def path_line(self) -> ComposeResult:
        """The line with the path."""
        with Horizontal(classes="line"):
            yield paragraph("Object file", classes="name")
            yield PathInput(self.directory.rstrip("/") + "/", _Paths(), id="path")

    def file_list(self) -> ComposeResult:
        """The list of files, under the name of their directory."""
        yield _FileList(id="files")

    def open_object(self, path: str) -> None:
        """Called when a file is chosen."""
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

    def first_focus(self) -> Widget | None:
        return self.query_one("#path")

    def on_mount(self) -> None:
        super().on_mount()
        path = self.query_one("#path", Input)
        path.cursor_position = len(path.value)
        self._list()

    def _open(self, path: str) -> None:
        self.directory = os.path.dirname(os.path.abspath(path))
        self.open_object(path)

    @on(Input.Changed, "#path")
    def typed(self) -> None:
        self._list()
        value = os.path.expanduser(self.query_one("#path", Input).value.strip())
        if os.path.isfile(value):
            self._open(value)
        else:
            self.close_object()

    @on(Input.Submitted, "#path")
    def entered(self) -> None:
        value = os.path.expanduser(self.query_one("#path", Input).value.strip())
        if self.into_object():
            return
        if os.path.isdir(value) and not value.endswith("/"):
            self._enter(value)
        elif os.path.exists(value) and not os.path.isdir(value):
            self._open(value)
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

    def _list(self) -> None:
        """List the parent directory, completions of the path, and usual places."""
        value = self.query_one("#path", Input).value
        directory = split(value)[0]
        files = self.query_one("#files", RowList)
        if directory != self._listed:
            files.forget_filter()
            self._listed = directory
        self._entries = siblings(value)
        places = (Entry(place, True) for place in usual_places())
        rows = self._rows = (Entry(UP, True), *self._entries, *places)
        here = os.path.abspath(os.path.expanduser(value.strip()))
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
        path = self.query_one("#path", Input)
        path.value = directory.rstrip("/") + "/"
        path.cursor_position = len(path.value)

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
            path = self.query_one("#path", Input)
            path.value = entry.path
            path.cursor_position = len(path.value)
