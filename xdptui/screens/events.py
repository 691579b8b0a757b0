# SPDX-License-Identifier: Apache-2.0
"""What becomes of an interface's packets after their program has spoken, live."""

from __future__ import annotations

import threading
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static

from xdpchain.running import Running
from xdptui.repaint import ThriftyCompositor
from xdptui.view.mishaps import Mishaps, mishap_lines

from .dialog import Dialog, button

__all__ = ["EventsScreen"]

PERIOD = 1.0
"""Seconds between two readings."""
FRAME = 4
"""Columns that the frame and its padding take."""


class EventsScreen(Dialog[None]):
    """Listens to the kernel's tracepoints while it is open: a worker of its own, since attaching takes a
    moment. ``running`` None: all interfaces of the namespace.
    """

    DEFAULT_CSS = """
    EventsScreen #box { width: 118; height: 100%; }
    EventsScreen #body { height: 1fr; padding: 0 0; }
    EventsScreen #happened { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "back", show=False),
        Binding("f", "freeze", show=False),
        Binding("r", "again", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("pagedown", "scroll(10)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
    ]

    class Heard(Message):
        """A reading of listening number ``number``, or why there is none."""

        def __init__(self, number: int, found: Mishaps | Exception) -> None:
            super().__init__()
            self.number, self.found = number, found

    def __init__(self, netns: str | None, running: Running | None) -> None:
        super().__init__()
        self._compositor = ThriftyCompositor()
        self._netns, self._chosen = netns, running
        self._number = 0
        self._ended = threading.Event()
        self._found: Mishaps | None = None
        self._frozen = False
        where = running.interface.name if running else "all interfaces"
        self.heading = f"Events: {where}"

    def body(self) -> ComposeResult:
        yield Static("listening…", id="happened")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")
        yield button("Freeze (f)", "freeze")
        yield button("From zero (r)", "again")

    def on_mount(self) -> None:
        super().on_mount()
        self._listen()

    def on_unmount(self) -> None:
        self._ended.set()

    def _listen(self) -> None:
        self._ended.set()
        self._ended = threading.Event()
        self._number += 1
        number, ended = self._number, self._ended
        self.run_worker(lambda: self._hear(number, ended), thread=True, group="events", exit_on_error=False)

    def _hear(self, number: int, ended: threading.Event) -> None:
        """The worker's body: holds the listener for as long as the screen is open."""
        from xdptui.listening import Listening

        index = self._chosen.interface.ifindex if self._chosen else None
        try:
            with Listening(self._netns, index) as listening:
                if self._chosen is not None:
                    listening.follow([self._chosen])
                while not ended.wait(PERIOD):
                    self.post_message(self.Heard(number, listening.read()))
        except Exception as error:  # shown to the user, in words
            self.post_message(self.Heard(number, error))

    def on_events_screen_heard(self, event: Heard) -> None:
        if event.number != self._number:
            return
        if isinstance(event.found, Exception):
            self._happened.update(Content.styled(str(event.found), "$error"))
            return
        self._found = event.found
        if not self._frozen:
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
        width = min(self.app.size.width, 118) - FRAME
        lines = mishap_lines(self._found, width, events=12)
        head = f"since {self._found.seconds:.0f} s" + (", frozen" if self._frozen else "")
        self._happened.update(
            Content("\n").join([Content(head), *(Content.assemble(*parts) for parts in lines)])
        )

    def action_freeze(self) -> None:
        self._frozen = not self._frozen
        self.query_one("#freeze", Button).label = "Go on (f)" if self._frozen else "Freeze (f)"
        self._show()

    def action_again(self) -> None:
        self._happened.update("listening…")
        self._found = None
        self._listen()

    def action_scroll(self, by: int) -> None:
        self.query_one("#body").scroll_relative(y=by, animate=False)

    @on(Button.Pressed, "#close")
    def close(self) -> None:
        self.finish(None)

    @on(Button.Pressed, "#freeze")
    def freeze(self) -> None:
        self.action_freeze()

    @on(Button.Pressed, "#again")
    def again(self) -> None:
        self.action_again()
