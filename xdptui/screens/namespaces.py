# SPDX-License-Identifier: Apache-2.0
"""Choose the network namespace to look at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from xdpchain.observe.discover import Glance, glance, spellings
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.view.namespace_lines import NamespaceView, namespace_cells, namespace_head
from xdptui.widgets.row_list import RowList

__all__ = ["Namespaces"]

UPDATE_S: Final = 0.2
"""Seconds between two updates of the list while namespaces are read."""

KEYS: Final = "/ filters, s sorts."
READING: Final = "Reading what runs there…"
OUTSIDE: Final = "Not seen: those of processes outside this PID namespace."


class Namespaces(Dialog[NamespaceView | None]):
    """Answers with one of the namespaces. Opens at once with ``places``, those that have names, then reads
    what runs there and looks for others. ``here`` is the one on the screen.
    """

    DEFAULT_CSS = """
    Namespaces #namespaces { height: auto; max-height: 60vh; background: $surface; }
    """
    heading = "Network namespaces"
    first = "#namespaces"
    primary = ("Go there (enter)", "go")

    def __init__(self, places: Sequence[str | None], here: str | None) -> None:
        super().__init__()
        self._views = [NamespaceView(place) for place in places]
        self._here = here
        self._complete = True

    def body(self) -> ComposeResult:
        yield RowList(id="namespaces")
        yield paragraph(f"{KEYS} {READING}", "$text-muted", id="progress")

    def on_mount(self) -> None:
        super().on_mount()
        self._show()
        self._rows.row = next((row for row, view in enumerate(self._views) if view.netns == self._here), 0)
        self.run_worker(self._read(), group="namespaces")

    @property
    def _rows(self) -> RowList:
        return self.query_one("#namespaces", RowList)

    def _show(self) -> None:
        views = self._views
        self._rows.present(
            len(views),
            lambda row, width: namespace_cells(views[row], width),
            head=namespace_head,
            sorts={
                "namespace": lambda row: views[row].label,
                "-interfaces": lambda row: views[row].interfaces or 0,
                "-XDP on": lambda row: len(views[row].with_xdp),
            },
            words=lambda row: views[row].words,
        )

    async def _read(self) -> None:
        rows = {view.netns: row for row, view in enumerate(self._views)}
        waiting = self._glances()
        while found := await asyncio.to_thread(_some, waiting):
            if self.closed:
                return
            for netns, names, with_xdp in found:
                view = NamespaceView(netns, -1 if names is None else len(names), with_xdp)
                if netns in rows:
                    self._views[rows[netns]] = view
                elif names is not None:
                    rows[netns] = len(self._views)
                    self._views.append(view)
            self._show()
        if self.closed:
            return
        text = KEYS if self._complete else f"{KEYS} {OUTSIDE}"
        self.query_one("#progress", Static).update(Content.styled(text, "$text-muted"))

    def _glances(self) -> Iterator[Glance]:
        known = [view.netns for view in self._views]
        yield from glance(known)
        places, self._complete = spellings()
        yield from glance(place for place in places if place not in known)

    @on(RowList.Chosen, "#namespaces")
    def action_go(self) -> None:
        if (view := self._rows.under(self._views)) is not None:
            self.finish(view)


def _some(waiting: Iterator[Glance]) -> list[Glance]:
    """As many as are read in time for an update, but one at least; none at the end."""
    found, deadline = [], time.monotonic() + UPDATE_S
    for one in waiting:
        found.append(one)
        if time.monotonic() > deadline:
            break
    return found
