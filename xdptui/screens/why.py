# SPDX-License-Identifier: Apache-2.0
"""Why packets got their verdicts: the lines that decided, with their counts, live."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from textual.containers import VerticalScroll
from textual.widgets import Static

from xdpchain.model.running import Running
from xdptui.render.why_text import MARK, MOST_FIRST, Row, reasons_table
from xdptui.screens.live_text import LiveText
from xdptui.words.advice import told
from xdptui.words.rates import Reading, Trends

if TYPE_CHECKING:
    from xdpchain.observe.site_shares import SlotReasons

__all__ = ["WhyScreen"]

LEGEND = "  44 if (…)  → 47: the condition in line 44 led to line 47"


class WhyScreen(LiveText):
    """``slot_key``: the slot that is marked. ``reading`` gives the newest counters, ``reasons`` the sites of
    what runs.
    """

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
        self._trouble = "reading…"
        self._trends: Trends[Row] = Trends()
        self._scrolled_to = 0.0
        self.heading = f"Why: which lines decided on {running.interface.name}"

    def on_mount(self) -> None:
        super().on_mount()
        self.ask(partial(self._reasons, self._target), self._read, "why")

    def _read(self, slots: tuple[SlotReasons, ...] | Exception) -> None:
        if isinstance(slots, Exception):
            self._trouble = told(slots, keys=True)
        else:
            self._slots = slots
        self.refresh_text()

    def refresh_text(self) -> None:
        super().refresh_text()
        self.call_after_refresh(self._to_slot)

    def _to_slot(self) -> None:
        """Keep the marked slot in view while lines come in above it, until somebody scrolls; what drops
        stands at the top, and has precedence.
        """
        view = self.query_one("#view", VerticalScroll)
        if not self.is_mounted or view.scroll_y != self._scrolled_to:
            return
        lines = self.text().split("\n")
        marked = next((row for row, line in enumerate(lines) if line.lstrip().startswith(MARK)), 0)
        if MOST_FIRST not in lines and marked >= view.size.height:
            view.scroll_to(y=marked, animate=False, immediate=True)
            self._scrolled_to = view.scroll_y

    def text(self) -> str:
        if self._slots is None:
            return self._trouble
        width = self.query_one("#live", Static).content_size.width or None
        reading = self._reading()
        table = reasons_table(
            self._target, self._slots, reading, "", None, self._trends, width, self._slot_key
        )
        return f"{table}\n\n{LEGEND}" if "→" in table else table
