# SPDX-License-Identifier: Apache-2.0
"""Text refreshed every second while it is open."""

from __future__ import annotations

from abc import abstractmethod

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from xdptui.screens.dialog import Dialog, paragraph

__all__ = ["LiveText"]


class LiveText(Dialog[None]):
    """A dialog with a single text, which may be longer than the screen."""

    DEFAULT_CSS = """
    LiveText {
        #box { width: 118; height: 100%; }
        #body { height: 1fr; padding: 0; }
        #live { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }
        #view { padding: 0 0 0 1; }
        VerticalScroll { scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    }
    """
    first = "#view"

    @abstractmethod
    def text(self) -> str:
        """What to show now."""

    def body(self) -> ComposeResult:
        with VerticalScroll(id="view"):
            yield paragraph("reading…", id="live")

    def on_mount(self) -> None:
        super().on_mount()
        self.set_interval(1.0, self.refresh_text)
        self.refresh_text()

    def refresh_text(self) -> None:
        """Refresh the text."""
        self.query_one("#live", Static).update(Content(self.text()))
        self.call_after_refresh(self._name_scrolling)

    def _name_scrolling(self) -> None:
        """Name the keys that scroll, at the lower border, while there is more than the screen shows."""
        if self.is_mounted:
            more = self.query_one("#view", VerticalScroll).max_scroll_y > 0
            self.query_one("#box").border_subtitle = "↑ ↓ pgup pgdn scroll" if more else ""
