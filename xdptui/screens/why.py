# SPDX-License-Identifier: Apache-2.0
"""Why packets got their verdicts: the lines that decided, with what is counted, live."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Static

from xdpchain.model.running import Running
from xdptui.render.why_text import Row, reasons_table
from xdptui.screens.dialog import Dialog, button
from xdptui.words.rates import Reading, Trends

if TYPE_CHECKING:
    from xdpchain.observe.reasons import SlotReasons

__all__ = ["WhyScreen"]


class WhyScreen(Dialog[None]):
    """``slot_key``: the slot that comes first. ``reading`` gives the newest counters."""

    DEFAULT_CSS = """
    WhyScreen {
        #box { width: 118; height: 100%; }
        #body { height: 1fr; padding: 0; }
        #reasons { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }
        VerticalScroll { scrollbar-size-vertical: 1; }
    }
    """

    class Read(Message):
        """The sites of all slots."""

        def __init__(self, slots: tuple[SlotReasons, ...]) -> None:
            super().__init__()
            self.slots = slots

    def __init__(self, running: Running, slot_key: str | None, reading: Callable[[], Reading | None]) -> None:
        super().__init__()
        self._target, self._slot_key, self._reading = running, slot_key, reading
        self._slots: tuple[SlotReasons, ...] | None = None
        self._trends: Trends[Row] = Trends()
        self.heading = f"Why: which lines decided on {running.interface.name}"

    def body(self) -> ComposeResult:
        with VerticalScroll():
            yield Static("reading…", id="reasons")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")

    def first_focus(self) -> Widget | None:
        return self.query_one(VerticalScroll)

    def on_mount(self) -> None:
        super().on_mount()
        self.set_interval(1.0, self._show)
        self.run_worker(self._read, thread=True, group="why", exit_on_error=False)

    def _read(self) -> None:
        from xdpchain.observe.reasons import reasons_of

        self.post_message(self.Read(reasons_of(self._target)))

    def on_why_screen_read(self, event: Read) -> None:
        first = [one for one in event.slots if one.key == self._slot_key]
        self._slots = (*first, *(one for one in event.slots if one not in first))
        self._show()

    def _show(self) -> None:
        if self._slots is not None:
            text = reasons_table(self._target, self._slots, self._reading(), "", None, self._trends)
            self.query_one("#reasons", Static).update(Content(text))

    @on(Button.Pressed)
    def close(self) -> None:
        self.finish(None)
