# SPDX-License-Identifier: Apache-2.0
"""What is wrong with this machine and the selected interface, why it matters, and the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Button, Static

from xdptui.screens.dialog import Dialog, button, paragraph

if TYPE_CHECKING:
    from xdpchain.doctor import Finding

__all__ = ["DoctorScreen"]


class DoctorScreen(Dialog[None]):
    """Checks when it opens and again on request; changes nothing. ``interface`` None: the whole namespace."""

    DEFAULT_CSS = """
    DoctorScreen #box { width: 118; height: 100%; }
    DoctorScreen #body { height: 1fr; padding: 0 1; }
    DoctorScreen #findings { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "back", show=False),
        Binding("f", "everything", show=False),
        Binding("r", "again", show=False),
    ]

    def __init__(self, netns: str | None, interface: str | None) -> None:
        super().__init__()
        self._netns, self._interface = netns, interface
        self._found: tuple[Finding, ...] = ()
        self._everything = False
        self.heading = f"Doctor: this machine{f' and {interface}' if interface else ''}"

    def body(self) -> ComposeResult:
        yield paragraph("examining…", id="findings")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")
        yield button("Show passed (f)", "everything")
        yield button("Run again (r)", "again")

    def on_mount(self) -> None:
        super().on_mount()
        self.ask(self._examine, self._examined, "doctor")

    def _examine(self) -> tuple[Finding, ...]:
        from xdpchain.doctor import examine

        return examine(self._netns, self._interface)

    def _examined(self, found: tuple[Finding, ...] | Exception) -> None:
        if isinstance(found, Exception):
            self._findings.update(Content.styled(str(found), "$error"))
            return
        self._found = found
        self._show()

    @property
    def _findings(self) -> Static:
        return self.query_one("#findings", Static)

    def _show(self) -> None:
        from xdptui.view.doctor_lines import doctor_lines
        from xdptui.words.doctor_words import summary

        lines = [[(summary(self._found), "bold")], [("", "")]]
        lines += doctor_lines(self._found, everything=self._everything)
        self._findings.update(Content("\n").join(Content.assemble(*parts) for parts in lines))

    def action_everything(self) -> None:
        if self._found:
            self._everything = not self._everything
            self.query_one("#everything", Button).label = (
                "Only problems (f)" if self._everything else "Show passed (f)"
            )
            self._show()

    def action_again(self) -> None:
        self._findings.update("examining…")
        self.ask(self._examine, self._examined, "doctor")
