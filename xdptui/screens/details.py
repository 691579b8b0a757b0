# SPDX-License-Identifier: Apache-2.0
"""A slot in full: its source, its settings, the verifier's log, and its code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import RichLog, Static, TabbedContent, TabPane

from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.widgets.beside_pane import BesidePane
from xdptui.words.advice import told

if TYPE_CHECKING:
    from xdpchain.observe.details import Details

__all__ = ["DetailsScreen"]


class DetailsScreen(Dialog[None]):
    """Tabs: overview, maps, translated code, native code, and what else is attached to the interface. ``was``
    is the running slot, None for a new one.
    """

    DEFAULT_CSS = """
    DetailsScreen {
        #box { width: 100%; max-width: 170; height: 100%; }
        #body { height: 1fr; padding: 0; }
        TabbedContent { height: 1fr; }
        TabPane { padding: 1 0 0 0; }
        VerticalScroll, RichLog { padding: 0 1; }
        RichLog { height: 1fr; background: $surface; scrollbar-size-vertical: 1; }
        #overview-text, #maps-text { height: auto; }
        VerticalScroll { scrollbar-size-vertical: 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "tab('overview')", show=False),
        Binding("2", "tab('maps')", show=False),
        Binding("3", "tab('translated')", show=False),
        Binding("4", "tab('jited')", show=False),
        Binding("5", "tab('beside')", show=False),
    ]

    def __init__(self, running: Running, slot: Slot, was: Slot | None) -> None:
        super().__init__()
        self._target, self._slot, self._was = running, slot, was
        self._details: Details | None = None
        self._begun: set[str] = set()
        self.heading = f"{slot.name} on {running.interface.name}"

    def body(self) -> ComposeResult:
        with TabbedContent(id="tabs"):
            with TabPane("1 Overview", id="overview"), VerticalScroll():
                yield paragraph("", id="overview-text")
            with TabPane("2 Maps", id="maps"), VerticalScroll():
                yield paragraph("", id="maps-text")
            with TabPane("3 Translated", id="translated"):
                yield RichLog(id="translated-text", wrap=False, markup=False, highlight=False)
            with TabPane("4 Native code", id="jited"):
                yield RichLog(id="jited-text", wrap=False, markup=False, highlight=False)
            with TabPane("5 Beside", id="beside"):
                yield BesidePane(self._target)

    def first_focus(self) -> Widget | None:
        return self.query_one("#tabs Tabs")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#overview-text", Static).update("reading…")
        self.ask(self._describe, self._described, "details")

    def _describe(self) -> Details:
        from xdpchain.observe.details import describe

        return describe(self._target, self._slot)

    def _described(self, details: Details | Exception) -> None:
        from xdptui.view.detail_lines import maps_table, overview

        if isinstance(details, Exception):
            self.query_one("#overview-text", Static).update(Content.styled(str(details), "$error"))
            return
        self._details = details
        self.query_one("#overview-text", Static).update(_rows(overview(details, self._slot, self._was)))
        self.query_one("#maps-text", Static).update(Content("\n".join(maps_table(details))))
        self._list(self.query_one("#tabs", TabbedContent).active)

    @on(TabbedContent.TabActivated)
    def activated(self, event: TabbedContent.TabActivated) -> None:
        self._list(event.pane.id or "")

    def action_tab(self, tab: str) -> None:
        self.query_one("#tabs", TabbedContent).active = tab

    def _list(self, tab: str) -> None:
        """Fetch an expensive tab when it is first opened."""
        if tab == "beside":
            self.query_one(BesidePane).begin()
        details = self._details
        if tab not in ("translated", "jited") or details is None or tab in self._begun:
            return
        self._begun.add(tab)
        make: Callable[[], str] = details.translated if tab == "translated" else details.jited_code
        self.query_one(f"#{tab}-text", RichLog).write("asking bpftool…")
        self.ask(make, partial(self._listed, tab), tab)

    def _listed(self, tab: str, code: str | Exception) -> None:
        text = told(code) if isinstance(code, Exception) else code
        log = self.query_one(f"#{tab}-text", RichLog)
        log.clear()
        log.write(text or "The kernel does not reveal the code.", scroll_end=False)


def _rows(rows: list[tuple[str, str]]) -> Content:
    return Content("\n").join(
        Content.assemble((f"{name:<20}", "bold" if not text else "$foreground 65%"), text)
        for name, text in rows
    )
