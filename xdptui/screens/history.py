# SPDX-License-Identifier: Apache-2.0
"""What changed on the interface and who changed it, rollbacks included; the map entries written in this
session; and its messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from xdpchain.model.running import Running
from xdptui.screens.dialog import button, paragraph
from xdptui.screens.two_panes import TwoPanes
from xdptui.view.history_lines import (
    entry_lines,
    history_cells,
    history_head,
    notice_cells,
    notice_head,
    notice_lines,
    summary,
)
from xdptui.view.notices import Notice
from xdptui.widgets.row_list import RowList

if TYPE_CHECKING:
    from xdpchain.change.journal.entries import JournalEntry

__all__ = ["LAST", "HistoryScreen"]

LAST = 0
"""In place of a change's number: the last change."""


class _Page(StrEnum):
    CHANGES = "changes"
    MAPS = "map edits"
    MESSAGES = "messages"


class HistoryScreen(TwoPanes[int | None]):
    """The number of the oldest change to undo, `LAST` for the last one, or None. ``running`` None: there are
    no changes. ``edits`` are the map entries written in this session.
    """

    DEFAULT_CSS = """
    HistoryScreen {
        #box { width: 100%; height: 100%; padding: 0; }
        #body { height: 1fr; padding: 0; }
        #rows { height: 2fr; min-height: 3; }
        #more { height: 1fr; min-height: 2; padding: 0 1; border-top: solid $panel; }
        #entry { height: auto; }
        #buttons { margin: 0; }
        CellGrid { background: $surface; }
    }
    """
    panes = ("#rows", "#more")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "back", show=False),
        Binding("n,tab", "turn", show=False),
        Binding("z", "undo", show=False),
        Binding("enter", "undo_to", show=False),
    ]
    first = "#rows"

    def __init__(
        self,
        running: Running | None,
        notices: tuple[Notice, ...],
        edits: tuple[Notice, ...] = (),
        *,
        may_undo: bool,
        messages: bool = False,
    ) -> None:
        super().__init__()
        self._target, self._may_undo = running, may_undo and running is not None
        self._notices = {_Page.MAPS: edits[::-1], _Page.MESSAGES: notices[::-1]}
        self._entries: tuple[JournalEntry, ...] = ()
        self._known: dict[int, tuple[JournalEntry, ...]] = {}
        """What each undo took back, by its number."""
        self._empty = "reading the journal…"
        self._pages = list(_Page) if running is not None else [_Page.MAPS, _Page.MESSAGES]
        self._page = _Page.MESSAGES if messages or running is None else _Page.CHANGES
        self.heading = self._title()

    @property
    def _next_page(self) -> _Page:
        return self._pages[(self._pages.index(self._page) + 1) % len(self._pages)]

    def _turn_label(self) -> str:
        return f"{self._next_page.capitalize()} (n)"

    def _title(self) -> str:
        name = self._target.interface.name if self._target else "no interface"
        pages = (f"[{page}]" if page is self._page else page for page in self._pages)
        return f"History of {name}: {' · '.join(pages)}"

    def body(self) -> ComposeResult:
        yield RowList(id="rows", choosing=False)
        with VerticalScroll(id="more", can_focus=False):
            yield paragraph("", id="entry")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")
        yield button(self._turn_label(), "turn")
        undo = button("Undo the last (z)", "undo")
        undo.disabled = not self._may_undo
        yield undo
        back = button("Back to before this (enter)", "undo_to")
        back.disabled = not self._may_undo
        yield back

    def on_mount(self) -> None:
        super().on_mount()
        if self._target is not None:
            self.ask(partial(_history, self._target), self._told, "history")
        self._show()

    def _told(self, found: tuple[JournalEntry, ...] | Exception) -> None:
        if isinstance(found, Exception):
            self._empty = str(found)
        else:
            self._entries = found[::-1]
            self._known = {}
            self._empty = "The journal has no changes for this interface."
        self._show()

    def _show(self) -> None:
        rows = self.query_one("#rows", RowList)
        if self._page is not _Page.CHANGES:
            notices, maps = self._notices[self._page], self._page is _Page.MAPS
            rows.present(
                len(notices),
                lambda row, width: notice_cells(notices[row], width),
                empty="No map entry was written in this session." if maps else "No messages yet.",
                head=notice_head,
                sorts={
                    "-when": lambda row: notices[row].at,
                    "message": lambda row: notice_lines(notices[row]),
                },
                words=lambda row: " ".join(notice_lines(notices[row])),
            )
        else:
            rows.present(
                len(self._entries),
                lambda row, width: history_cells(self._entries[row], width, self._undone(self._entries[row])),
                empty=self._empty,
                head=history_head,
                sorts={
                    "-when": lambda row: self._entries[row].number,
                    "what": lambda row: self._entries[row].kind,
                    "by": lambda row: self._entries[row].author.user,
                    "change": lambda row: summary(self._entries[row]),
                },
                words=lambda row: " ".join(entry_lines(self._entries[row])),
            )
        self._show_one()

    @on(RowList.Moved)
    def _show_one(self) -> None:
        rows = self.query_one("#rows", RowList)
        lines: Sequence[str] = ()
        if self._page is not _Page.CHANGES:
            lines = notice_lines(notice) if (notice := rows.under(self._notices[self._page])) else ()
        elif entry := rows.under(self._entries):
            lines = entry_lines(entry, self._undone(entry))
        self.query_one("#entry", Static).update(Content("\n".join(lines)))
        back = self.query_one("#undo_to", Button)
        back.disabled = self._page is not _Page.CHANGES or not (self._may_undo and self._entries)

    def _undone(self, entry: JournalEntry) -> tuple[JournalEntry, ...]:
        from xdpchain.change.journal.entries import undone_by

        if entry.number not in self._known:
            self._known[entry.number] = undone_by(self._entries[::-1], entry)
        return self._known[entry.number]

    def action_turn(self) -> None:
        self._page = self._next_page
        self.query_one("#box").border_title = Content(self._title())
        self.query_one("#turn", Button).label = self._turn_label()
        rows = self.query_one("#rows", RowList)
        rows.forget_filter()
        rows.row = 0
        self._show()

    def action_undo(self) -> None:
        if self._may_undo:
            self.finish(LAST)

    def action_undo_to(self) -> None:
        """Undo the selected change and all after it."""
        entry = self.query_one("#rows", RowList).under(self._entries)
        if self._page is _Page.CHANGES and entry is not None and self._may_undo:
            self.finish(entry.number)


def _history(running: Running) -> tuple[JournalEntry, ...]:
    from xdpchain.change.journal.undoing import history

    return history(running)
