# SPDX-License-Identifier: Apache-2.0
"""What happens to an interface's packets after their program has returned, and its account, live."""

from __future__ import annotations

import threading
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static

from xdpchain.model.running import Running
from xdptui.screens.dialog import Dialog, button, paragraph
from xdptui.widgets.repaint import ThriftyCompositor
from xdptui.workers.event_pages import PAGES, Page, Render, open_page

__all__ = ["EventsScreen"]

PERIOD = 1.0
"""Seconds between two readings."""
FRAME = 4
"""Columns that the frame and its padding take."""


class EventsScreen(Dialog[None]):
    """Shows one page at a time, and keeps the page's programs attached while it is shown; in a worker,
    because attaching takes a moment. ``running`` None: all interfaces of the namespace.
    """

    DEFAULT_CSS = """
    EventsScreen #box { width: 118; height: 100%; }
    EventsScreen #body { height: 1fr; padding: 0 0; }
    EventsScreen #happened { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "back", show=False),
        Binding("n", "turn", show=False),
        Binding("f", "freeze", show=False),
        Binding("r", "again", show=False),
    ]

    class Heard(Message):
        """Reading from the page opened as ``number``, or why there is none."""

        def __init__(self, number: int, found: Render | Exception) -> None:
            super().__init__()
            self.number, self.found = number, found

    def __init__(self, netns: str | None, running: Running | None, recorded: Page | None = None) -> None:
        """``recorded``: the only page of a recording."""
        super().__init__()
        self._compositor = ThriftyCompositor()
        self._recorded = recorded
        self._pages = PAGES if recorded is None else PAGES[:1]
        self._netns, self._chosen = netns, running
        self._page = 0
        self._number = 0
        self._ended = threading.Event()
        self._found: Render | None = None
        self._frozen = False
        self.heading = self._title()

    def _title(self) -> str:
        where = self._chosen.interface.name if self._chosen else "all interfaces"
        pages = " · ".join(f"[{page}]" if i == self._page else page for i, page in enumerate(self._pages))
        return f"{where}: {pages}"

    def body(self) -> ComposeResult:
        yield paragraph("beginning…", id="happened")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")
        if self._recorded is None:
            yield button("Next page (n)", "turn")
        yield button("Freeze (f)", "freeze")
        if self._recorded is None:
            yield button("Reset (r)", "again")

    def on_mount(self) -> None:
        super().on_mount()
        self._hold()

    def on_unmount(self) -> None:
        self._ended.set()

    def _hold(self) -> None:
        """Release the previous page's source and open this page's."""
        self._ended.set()
        self._ended = threading.Event()
        self._number += 1
        self._found = None
        self._happened.update("beginning…")
        number, ended, page = self._number, self._ended, self._pages[self._page]
        self.run_worker(
            lambda: self._read(number, ended, page), thread=True, group="events", exit_on_error=False
        )

    def _read(self, number: int, ended: threading.Event, page: str) -> None:
        """The worker's body."""
        try:
            with self._recorded or open_page(page, self._netns, self._chosen, ended.is_set) as source:
                while not ended.wait(PERIOD):
                    self.post_message(self.Heard(number, source.read()))
        except Exception as error:  # shown to the user as text
            self.post_message(self.Heard(number, error))

    def on_events_screen_heard(self, event: Heard) -> None:
        if event.number != self._number:
            return
        if isinstance(event.found, Exception):
            self._found = None
            self._happened.update(Content.styled(str(event.found), "$error"))
            return
        if not self._frozen:
            self._found = event.found
            self._show()

    def on_resize(self) -> None:
        super().on_resize()
        self._show()

    @property
    def _happened(self) -> Static:
        return self.query_one("#happened", Static)

    def _show(self) -> None:
        if self._found is None:
            return
        lines = self._found(min(self.app.size.width, 118) - FRAME)
        if self._frozen:
            lines = [[("frozen", "bold")], *lines]
        self._happened.update(Content("\n").join(Content.assemble(*parts) for parts in lines))

    def action_turn(self) -> None:
        self._page = (self._page + 1) % len(self._pages)
        self.query_one("#box").border_title = Content(self._title())
        self.query_one("#body").scroll_home(animate=False)
        self._hold()

    def action_freeze(self) -> None:
        self._frozen = not self._frozen
        self.query_one("#freeze", Button).label = "Resume (f)" if self._frozen else "Freeze (f)"
        self._show()

    def action_again(self) -> None:
        self._hold()
