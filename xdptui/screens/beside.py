# SPDX-License-Identifier: Apache-2.0
"""What is attached behind and beside a program that has no slots to show."""

from __future__ import annotations

from textual.app import ComposeResult

from xdpchain.model.running import Running
from xdptui.screens.dialog import Dialog
from xdptui.widgets.beside_pane import BesidePane

__all__ = ["BesideScreen"]


class BesideScreen(Dialog[None]):
    """Programs in the maps of the one on the hook, and what else is attached to the interface."""

    DEFAULT_CSS = """
    BesideScreen {
        #box { width: 118; height: 100%; }
        #body { height: 1fr; padding: 0; }
    }
    """
    first = "BesidePane"

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._target = running
        name = running.hook.name if running.hook else "the hook"
        self.heading = f"Behind and beside {name} on {running.interface.name}"

    def body(self) -> ComposeResult:
        yield BesidePane(self._target)

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(BesidePane).begin()
