# SPDX-License-Identifier: Apache-2.0
"""What packets meet behind the program on the hook, counted while this is open, and what else is attached to
the interface.
"""

from __future__ import annotations

from threading import Event

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from xdpchain.model.running import Running
from xdptui.render.watch_text import behind_rows
from xdptui.workers.behind_meter import BehindMeter

__all__ = ["BesidePane"]

INTERVAL = 1.0


class BesidePane(VerticalScroll):
    """Reads nothing until `begin`, then reads until it is removed."""

    DEFAULT_CSS = """
    BesidePane {
        height: 1fr; scrollbar-size-vertical: 1;
        #beside-text { height: auto; }
    }
    """

    class Told(Message):
        """A reading as text."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._target, self._left = running, Event()
        self._begun = False

    def compose(self) -> ComposeResult:
        yield Static("reading…", id="beside-text", markup=False)

    def begin(self) -> None:
        """Start reading, once a second. The thread owns what it opens, and releases it when it ends."""
        if not self._begun:
            self._begun = True
            self.run_worker(self._read, thread=True, group="beside", exit_on_error=False)

    def on_unmount(self) -> None:
        self._left.set()

    def _read(self) -> None:
        from xdpchain.observe.beside import beside
        from xdptui.words.advice import told
        from xdptui.words.beside_words import beside_lines

        try:
            others = beside_lines(beside(self._target))
            with BehindMeter() as meter:
                while not self._left.is_set():
                    self.post_message(self.Told("\n".join([*behind_rows(meter.read(self._target)), *others])))
                    self._left.wait(INTERVAL)
        except Exception as error:  # shown to the user as text
            self.post_message(self.Told(told(error)))

    def on_beside_pane_told(self, event: Told) -> None:
        event.stop()
        self.query_one("#beside-text", Static).update(Content(event.text))
