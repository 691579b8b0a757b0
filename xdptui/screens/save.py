# SPDX-License-Identifier: Apache-2.0
"""Where to save a chain, and whether to save its object files too."""

from __future__ import annotations

import os

from textual import on
from textual.app import ComposeResult
from textual.widgets import Button, Input, Static

from xdpchain.frozen import frozen
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.widgets.one_of import OneOf

__all__ = ["SaveDialog", "SaveTo"]


@frozen
class SaveTo:
    """The spec's path, and the folder for object files; None: refer to them where they are."""

    path: str
    objects: str | None


class SaveDialog(Dialog[SaveTo | None]):
    """Answers with where to save, or None."""

    DEFAULT_CSS = """
    SaveDialog Input { margin: 1 0; }
    SaveDialog.-low Input { margin: 0; }
    """
    first = "#path"
    primary = ("Save (ctrl+s)", "save")

    def __init__(self, name: str, what: str) -> None:
        super().__init__()
        self.heading = f"Save {name} as a spec"
        self._what = what
        self._path = os.path.join(os.getcwd(), f"{name}.toml")

    def body(self) -> ComposeResult:
        yield paragraph(f"{self._what} `xdptui apply FILE` applies it again.")
        yield Input(self._path, id="path", select_on_focus=False)
        yield OneOf(self._choices(), id="objects")
        yield paragraph("", id="outcome", classes="gap")

    @on(Input.Changed, "#path")
    @on(OneOf.Chosen)
    def preview(self) -> None:
        where = self._where()
        objects = self.query_one(OneOf)
        objects.present(self._choices(), objects.chosen)
        if where is None:
            text = "Give the path of a file."
        elif os.path.isdir(where.path):
            text = "That is a directory: give the path of a file in it."
        else:
            text = (
                "That file exists: you will be asked before it is changed."
                if os.path.lexists(where.path)
                else ""
            )
        self.query_one("#outcome", Static).update(text)
        self.query_one("#save", Button).disabled = where is None or os.path.isdir(where.path)

    def _choices(self) -> tuple[str, str]:
        folder = os.path.basename(_folder(self._path))
        return "refer to the object files where they are", f"write them to the directory {folder} next to it"

    def _where(self) -> SaveTo | None:
        typed = self.query_one("#path", Input).value.strip()
        if not typed or "\0" in typed:
            return None
        self._path = os.path.abspath(os.path.expanduser(typed))
        return SaveTo(self._path, _folder(self._path) if self.query_one(OneOf).chosen else None)

    @on(Input.Submitted, "#path")
    def action_save(self) -> None:
        where = self._where()
        if where is not None and not self.query_one("#save", Button).disabled:
            self.finish(where)


def _folder(path: str) -> str:
    return os.path.splitext(path)[0] + ".objects"
