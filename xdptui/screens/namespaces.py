# SPDX-License-Identifier: Apache-2.0
"""Choose the network namespace to look at."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult

from xdptui.screens.dialog import Dialog, paragraph
from xdptui.view.namespace_lines import NamespaceView, namespace_cells, namespace_head
from xdptui.widgets.row_list import RowList

__all__ = ["Namespaces"]


class Namespaces(Dialog[NamespaceView | None]):
    """Answers with one of the namespaces. ``here`` is the one on the screen; ``unseen`` says what could not
    be read.
    """

    DEFAULT_CSS = """
    Namespaces #namespaces { height: auto; max-height: 16; background: $surface; }
    """
    heading = "Network namespaces"
    first = "#namespaces"
    primary = ("Go there (enter)", "go")

    def __init__(self, views: Sequence[NamespaceView], here: str | None, unseen: Sequence[str]) -> None:
        super().__init__()
        self._views, self._here, self._unseen = tuple(views), here, tuple(unseen)

    def body(self) -> ComposeResult:
        yield RowList(id="namespaces")
        for text in self._unseen:
            yield paragraph(f"Not seen: {text}")

    def on_mount(self) -> None:
        super().on_mount()
        rows, views = self.query_one("#namespaces", RowList), self._views
        rows.present(
            len(views),
            lambda row, width: namespace_cells(views[row], width),
            head=namespace_head,
            sorts={
                "namespace": lambda row: views[row].label,
                "-interfaces": lambda row: views[row].interfaces,
                "-XDP on": lambda row: len(views[row].with_xdp),
            },
            words=lambda row: views[row].words,
        )
        rows.row = next((row for row, view in enumerate(views) if view.netns == self._here), 0)

    @on(RowList.Chosen, "#namespaces")
    def action_go(self) -> None:
        if (view := self.query_one("#namespaces", RowList).under(self._views)) is not None:
            self.finish(view)
