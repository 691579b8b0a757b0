# SPDX-License-Identifier: Apache-2.0
"""Finding an object file: a path that completes itself, and a list of what is there."""

from __future__ import annotations

import os
from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from xdpchain.errors import XdpChainError
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.screens.object_paths import Entry, complete, siblings, split, usual_places

__all__ = ["ObjectFiles"]

Answer = TypeVar("Answer")


class _Paths(Suggester):
    """Completes a path; the right arrow takes it."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        return complete(value)


class _FileList(OptionList):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("backspace,left", "screen.parent", show=False)]


class ObjectFiles(Dialog[Answer]):
    """A dialog that begins with a file. ``directory`` is where it looks, and where it looked last."""

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

    def path_line(self) -> ComposeResult:
        """The line with the path."""
        with Horizontal(classes="line"):
            yield paragraph("Object file", classes="name")
            yield Input(
                self.directory.rstrip("/") + "/",
                id="path",
                suggester=_Paths(),
                compact=True,
                select_on_focus=False,
            )

    def file_list(self) -> ComposeResult:
        """The list of files, under the name of their directory."""
        yield paragraph("", id="filestitle", classes="title")
        yield _FileList(id="files", compact=True, markup=False)

    def open_object(self, path: str) -> None:
        """A file was chosen."""
        raise NotImplementedError

    def into_object(self) -> bool:
        """Enter on the path: go on to what is in the object; False if none is open."""
        raise NotImplementedError

    def close_object(self) -> None:
        """The path names no file any more."""
        raise NotImplementedError

    def no_object(self, error: XdpChainError) -> None:
        """Enter on a path that leads nowhere."""
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
            self.no_object(XdpChainError(f"There is no {value or 'such file'}"))

    def _list(self) -> None:
        value = self.query_one("#path", Input).value
        self._entries = siblings(value)
        files = self.query_one("#files", OptionList)
        files.clear_options()
        options = [Option(Content("../"), id="up")]
        options += [Option(Content(entry.label), id=f"e{i}") for i, entry in enumerate(self._entries)]
        options += [Option(Content(f"{place}/"), id=f"p{place}") for place in usual_places()]
        files.add_options(options)
        here = os.path.abspath(os.path.expanduser(value.strip()))
        chosen = next((i for i, entry in enumerate(self._entries) if entry.path == here), 0)
        files.highlighted = chosen + 1 if self._entries else 0
        self.query_one("#filestitle", Static).update(Content(f" objects in {split(value)[0]}"))

    def _enter(self, directory: str) -> None:
        self.directory = directory
        path = self.query_one("#path", Input)
        path.value = directory.rstrip("/") + "/"
        path.cursor_position = len(path.value)

    def action_parent(self) -> None:
        self._enter(os.path.dirname(os.path.abspath(self.directory)))

    @on(OptionList.OptionSelected, "#files")
    def chosen(self, event: OptionList.OptionSelected) -> None:
        choice = event.option_id or ""
        if choice == "up":
            self.action_parent()
        elif choice.startswith("p"):
            self._enter(choice[1:])
        else:
            entry = self._entries[int(choice[1:])]
            if entry.directory:
                self._enter(entry.path)
            else:
                path = self.query_one("#path", Input)
                path.value = entry.path
                path.cursor_position = len(path.value)
