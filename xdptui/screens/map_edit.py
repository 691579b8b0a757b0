# SPDX-License-Identifier: Apache-2.0
"""A new value for an element of a map, and the question before it is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from xdpchain.errors import XdpChainError
from xdpchain.maps import EntryChange, Shape, TableEntry
from xdpchain.maps.layout import Layout, Record
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.screens.question import Confirm
from xdptui.words.advice import worded

__all__ = ["MapEdit", "WriteConfirm"]


Planner = Callable[[str, str, str | None], Awaitable[EntryChange | XdpChainError]]
"""Key and value as text, and the previous value if edited -> what writing that would do."""


class MapEdit(Dialog[EntryChange | None]):
    """Answers with the change, or None. ``entry`` None: asks for the key too. Reports invalid input here, and
    keeps the text.
    """

    DEFAULT_CSS = """
    MapEdit Input { margin: 0 0 1 0; }
    MapEdit #trouble { height: auto; }
    """
    primary = ("Continue (enter)", "go")

    def __init__(
        self,
        shape: Shape,
        entry: TableEntry | None,
        plan: Planner,
        *,
        typed: tuple[str, str] | None = None,
        trouble: str = "",
    ) -> None:
        super().__init__()
        self._plan = plan
        self._shape, self._entry = shape, entry
        self.typed = typed
        """Key and value as they were typed, once that was answered; None: nothing yet."""
        self._trouble = trouble
        self.heading = f"{shape.name}: a new element" if entry is None else f"{shape.name}: a new value"

    def body(self) -> ComposeResult:
        if self._entry is None:
            yield paragraph(f"Key  {_members(self._shape.key)}".rstrip())
            yield Input(self.typed[0] if self.typed else "", id="key", compact=True)
            yield paragraph(f"Value  {_members(self._shape.value)}".rstrip())
        else:
            yield paragraph(f"{'Variable' if self._shape.variables else 'Key'}  {self._entry.label}")
            yield paragraph(f"Now  {self._entry.text(2000)}", classes="gap")
        value = self.typed[1] if self.typed else self._initial()
        yield Input(value, id="value", compact=True, select_on_focus=False)
        yield paragraph(self._hint(), classes="dim")
        yield paragraph(self._trouble, id="trouble", classes="bad")

    def _initial(self) -> str:
        if self._entry is None or self._entry.cpus:
            return ""
        return "" if self._entry.note else self._entry.text(100_000)

    def _hint(self) -> str:
        if self._shape.type.startswith("devmap"):
            return "An interface's name or ifindex."
        if self._shape.type == "cpumap":
            return "The length of the CPU's queue, in packets."
        each = " It is set on every CPU." if self._shape.per_cpu else ""
        return f"Numbers can be 0x…; {{a=1, b=2}} sets members and leaves the others.{each}"

    def first_focus(self) -> Widget | None:
        return self.query_one("#key" if self._entry is None and not self.typed else "#value")

    @on(Input.Changed)
    def edited(self, event: Input.Changed) -> None:
        if self.typed is None or event.value not in self.typed:  # what the dialog opens with is no edit
            self.query_one("#trouble", Static).update("")

    @on(Input.Submitted, "#key")
    def to_value(self) -> None:
        self.set_focus(self.query_one("#value"))

    @on(Input.Submitted, "#value")
    def action_go(self) -> None:
        self.run_worker(self._try(), group="try", exclusive=True)

    async def _try(self) -> None:
        key = self.query_one("#key", Input).value if self._entry is None else self._entry.label
        value = self.query_one("#value", Input).value
        found = await self._plan(key, value, self._initial() or None)
        if isinstance(found, EntryChange):
            self.typed = key, value
            self.finish(found)
            return
        lines = [f"{found.what}: {found.why}" if found.why else found.what, worded(found.todo, keys=True)]
        self.query_one("#trouble", Static).update(Content("\n".join(filter(None, lines))))
        wrong_key = self._entry is None and "key" in found.what
        self.set_focus(self.query_one("#key" if wrong_key else "#value"))


def _members(layout: Layout) -> str:
    """The names of a structure's members, as they are typed."""
    return ", ".join(f"{field.name}=" for field in layout.fields) if isinstance(layout, Record) else ""


class WriteConfirm(Confirm):
    """Shows old and new value, and asks whether to write."""

    def __init__(self, map_name: str, change: EntryChange) -> None:
        old = "(there is none yet)" if change.old is None else change.old
        gone = change.new is None
        text = (
            f"{change.label}",
            f"  {old}",
            "is deleted" if gone else f"→ {change.new}",
            "Programs that use the map see it at once. It can't be undone.",
        )
        heading = f"Delete from {map_name}" if gone else f"Write to {map_name}"
        super().__init__(heading, text, "Delete" if gone else "Write", "Cancel")
