# SPDX-License-Identifier: Apache-2.0
"""Where to record to, and which recording to replay."""

from __future__ import annotations

import os
import time
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from xdptui.screens.dialog import Dialog, paragraph
from xdptui.screens.object_paths import Entry, listing
from xdptui.view.file_lines import file_cells, file_head
from xdptui.widgets.row_list import RowList

__all__ = ["OpenRecording", "RecordTo"]

ENDING = ".jsonl"


def _meant(typed: str) -> str:
    """The path that was typed; empty if it is not one."""
    text = typed.strip()
    return "" if not text or "\0" in text else os.path.abspath(os.path.expanduser(text))


class RecordTo(Dialog[str | None]):
    """Answers with the path of a new file, in ``folder`` unless another path is typed."""

    DEFAULT_CSS = """
    RecordTo Input { margin: 1 0; }
    RecordTo.-low Input { margin: 0; }
    """
    heading = "Record all interfaces"
    first = "#path"
    primary = ("Record (enter)", "record")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = str(folder / time.strftime(f"xdptui-%Y%m%d-%H%M%S{ENDING}"))

    def body(self) -> ComposeResult:
        yield paragraph("Records what runs and its counters once a second, until you press ctrl+r again.")
        yield Input(self._path, id="path", select_on_focus=False)
        yield paragraph("", id="outcome")

    @on(Input.Changed, "#path")
    def preview(self) -> None:
        path = _meant(self.query_one("#path", Input).value)
        taken = os.path.lexists(path)
        text = "That file exists: give another name." if taken else "ctrl+o replays it."
        self.query_one("#outcome", Static).update(text if path else "Give the path of a file.")
        self.query_one("#record", Button).disabled = taken or not path

    @on(Input.Submitted, "#path")
    def action_record(self) -> None:
        if not self.query_one("#record", Button).disabled:
            self.finish(_meant(self.query_one("#path", Input).value))


class OpenRecording(Dialog[str | None]):
    """Answers with the path of a recording: one in ``folder``, newest first, or a typed path."""

    DEFAULT_CSS = """
    OpenRecording {
        #files { height: auto; max-height: 12; margin: 1 0; background: $surface; }
    }
    OpenRecording.-low #files { margin: 0; }
    """
    heading = "Replay a recording"
    primary = ("Replay (enter)", "replay")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = str(folder)
        found = [entry for entry in listing(f"{folder}/", (ENDING,)) if not entry.directory]
        self._files: tuple[Entry, ...] = tuple(sorted(found, key=lambda entry: -(entry.changed or 0)))

    def body(self) -> ComposeResult:
        yield paragraph("For other directories, type the path of a file made by ctrl+r or `xdptui record`.")
        yield Input(placeholder="path", id="path")
        if self._files:
            yield RowList(id="files")
        else:
            yield paragraph(f"There is no recording in {self._folder} yet. ctrl+r makes one.", id="none")

    def first_focus(self) -> Widget | None:
        return self.query_one("#files" if self._files else "#path")

    def on_mount(self) -> None:
        super().on_mount()
        now, files = time.time(), self._files
        for rows in self.query("#files").results(RowList):
            rows.present(
                len(files),
                lambda row, width: file_cells(files[row], width, now, whole=False),
                head=lambda width, position: file_head("recordings", self._folder, width, position),
                sorts={
                    "recordings": lambda row: files[row].label,
                    "-size": lambda row: files[row].size or 0,
                    "age": lambda row: -(files[row].changed or 0),
                },
                words=lambda row: files[row].label,
            )

    @on(Input.Submitted, "#path")
    @on(RowList.Chosen, "#files")
    def action_replay(self) -> None:
        typed = _meant(self.query_one("#path", Input).value)
        entry = self.query_one("#files", RowList).under(self._files) if self._files else None
        if path := typed or (entry.path if entry else ""):
            self.finish(path)
