# SPDX-License-Identifier: Apache-2.0
"""Why packets got their verdicts: the lines that decided, with their counts, live."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Static

from xdpchain.model.running import Running
from xdptui.render.why_text import MARK, Row, reasons_table
from xdptui.screens.live_text import LiveText
from xdptui.words.rates import Reading, Trends

if TYPE_CHECKING:
    from xdpchain.observe.site_shares import SlotReasons

__all__ = ["WhyScreen"]


class WhyScreen(LiveText):
    """``slot_key``: the slot that is marked, and scrolled to if out of sight. ``reading`` returns the newest
    counters, ``reasons`` the sites of what runs.
    """

    class Read(Message):
        """The sites of all slots."""

        def __init__(self, slots: tuple[SlotReasons, ...]) -> None:
            super().__init__()
            self.slots = slots

    def __init__(
        self,
        running: Running,
        slot_key: str | None,
        reading: Callable[[], Reading | None],
        reasons: Callable[[Running], tuple[SlotReasons, ...]],
    ) -> None:
        super().__init__()
        self._reasons = reasons
        self._target, self._slot_key, self._reading = running, slot_key, reading
        self._slots: tuple[SlotReasons, ...] | None = None
        self._trends: Trends[Row] = Trends()
        self._scrolled = 0.0
        self.heading = f"Why: which lines decided on {running.interface.name}"

    def on_mount(self) -> None:
        super().on_mount()
        self.run_worker(self._read, thread=True, group="why", exit_on_error=False)

    def _read(self) -> None:
        self.post_message(self.Read(self._reasons(self._target)))

    def on_why_screen_read(self, event: Read) -> None:
        self._slots = event.slots
        self.refresh_text()

    def refresh_text(self) -> None:
        super().refresh_text()
        self.call_after_refresh(self._scroll_to_slot)

    def _scroll_to_slot(self) -> None:
        """Scroll to the marked slot, unless the user scrolled. If it is in sight, stay at the top, which
        shows what the chain drops.
        """
        view = self.query_one("#view", VerticalScroll)
        lines = str(self.query_one("#live", Static).render()).split("\n")
        place = next((n for n, line in enumerate(lines) if line.startswith(MARK)), 0)
        if view.scroll_y == self._scrolled and place >= view.size.height:
            view.scroll_to(y=place, animate=False, immediate=True)
            self._scrolled = view.scroll_y

    def text(self) -> str:
        if self._slots is None:
            return "reading…"
        width = self.query_one("#live", Static).content_size.width or None
        reading = self._reading()
        return reasons_table(
            self._target, self._slots, reading, "", None, self._trends, width, self._slot_key
        )
