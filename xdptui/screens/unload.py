# SPDX-License-Identifier: Apache-2.0
"""Which components to remove from the candidate: one, several, all."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Button, Static

from xdpchain.model.chain import Chain
from xdptui.screens.dialog import Dialog, button, paragraph
from xdptui.widgets.slot_choice import SlotChoice

__all__ = ["Leaving", "UnloadDialog"]


class Leaving(NamedTuple):
    """The indices of the slots to remove, and whether their maps are kept for a while."""

    slots: tuple[int, ...]
    keep_maps: bool


class UnloadDialog(Dialog[Leaving | None]):
    """Answers with what to remove, or None."""

    DEFAULT_CSS = "UnloadDialog #slots { margin: 1 0; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "all", show=False),
        Binding("k", "keep_maps", show=False),
        Binding("u", "remove", show=False),
    ]
    first = "SlotChoice"

    def __init__(self, chain: Chain, index: int, interface: str, *, keep_maps: bool = False) -> None:
        super().__init__(classes="-danger")
        self.heading = f"Unload from {interface}"
        self._chain, self._index = chain, index
        self._keep_maps = keep_maps

    def body(self) -> ComposeResult:
        yield paragraph("space marks, a marks all or none. The interface does not change until you apply.")
        yield SlotChoice(self._chain, [self._index], id="slots")
        yield button(self._kept_words(), "maps")
        yield paragraph("", id="outcome")

    def buttons(self) -> ComposeResult:
        yield button("Keep all (esc)", "cancel")
        yield button("Remove", "remove", "error")

    def on_mount(self) -> None:
        super().on_mount()
        self.preview()

    def _kept_words(self) -> str:
        sign = "x" if self._keep_maps else " "
        return f"[{sign}] keep their map contents for a week, for undo (k)"

    @on(Button.Pressed, "#maps")
    def action_keep_maps(self) -> None:
        self._keep_maps = not self._keep_maps
        self.query_one("#maps", Button).label = self._kept_words()

    def action_all(self) -> None:
        self.query_one(SlotChoice).mark_all_or_none()

    @on(SlotChoice.Marked)
    def preview(self) -> None:
        count = len(self.query_one(SlotChoice).marked)
        whole = len(self._chain)
        if count == whole:
            text = "The chain will be empty: applying it frees the interface's XDP hook."
        else:
            text = f"{count} of {whole} will be removed."
        self.query_one("#outcome", Static).update(text)
        remove = self.query_one("#remove", Button)
        remove.disabled = count == 0
        remove.label = f"Remove {count} of {whole} (u)" if count else "Nothing marked"

    def action_remove(self) -> None:
        if chosen := self.query_one(SlotChoice).marked:
            self.finish(Leaving(chosen, self._keep_maps))
