# SPDX-License-Identifier: Apache-2.0
"""The plan: differences, steps and warnings, and the way to apply it."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static

from xdpchain.change.plan import Change, ChangeKind, Plan
from xdptui.screens.dialog import Dialog, button, paragraph

__all__ = ["PlanDialog"]

STYLE = {
    ChangeKind.ADD: "$success",
    ChangeKind.REMOVE: "$error",
    ChangeKind.MOVE: "$primary",
    ChangeKind.RETUNE: "$warning",
    ChangeKind.REPLACE: "$warning",
    ChangeKind.ADOPT: "$success",
    ChangeKind.CHAIN: "$primary",
}


def change_line(change: Change) -> Content:
    """One difference, its symbol first."""
    return Content.assemble(
        (f" {change.symbol} ", f"bold {STYLE[change.kind]}"),
        (f"{change.name or 'chain'}", "bold"),
        f"  {change.text}",
    )


class PlanDialog(Dialog[bool]):
    """True if the user wants it applied."""

    DEFAULT_CSS = """
    PlanDialog #box { width: 100; }
    PlanDialog .section { color: $primary; text-style: bold; margin: 1 0 0 0; }
    PlanDialog .first { margin: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "apply", show=False),
        Binding("p", "back", show=False),
        Binding("y", "what_if", show=False),
        Binding("down,j", "scroll(2)", show=False),
        Binding("up,k", "scroll(-2)", show=False),
    ]

    class Tried(Message):
        """What became of built-in packets, in words; ``why`` they could not be tried on the candidate, and
        whether packets of the operator's own connection are among those that change.
        """

        def __init__(self, text: str, why: str = "", *, own: bool = False) -> None:
            super().__init__()
            self.text, self.why, self.own = text, why, own

    def __init__(self, plan: Plan, refusal: str = "", remarks: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.plan = plan
        self._remarks = remarks
        self._refusal = refusal
        self.heading = f"Plan for {plan.running.interface.name}"

    def body(self) -> ComposeResult:
        plan = self.plan
        if plan.empty:
            yield paragraph("Nothing differs: what runs is the candidate.", classes="strong")
        else:
            yield paragraph("Changes", classes="section first")
            for change in plan.changes:
                yield Static(change_line(change))
            yield paragraph("Steps", classes="section")
            for i, step in enumerate(plan.steps, 1):
                yield paragraph(f" {i}. {step}")
        for remark in self._remarks:
            yield paragraph(remark, classes="gap")
        yield paragraph("Warnings", classes="section")
        for warning in plan.warnings:
            yield Static(Content.assemble((" ! ", "bold $warning"), warning.text))
        if not plan.warnings:
            yield paragraph(" none", classes="dim")
        if not plan.empty:
            yield paragraph("What if", classes="section")
            yield paragraph(" trying packets, away from the interface…", id="packets", classes="dim")
        if self._refusal:
            yield paragraph(self._refusal, classes="gap bad")

    def buttons(self) -> ComposeResult:
        yield button("Back (esc)", "back")
        if not self.plan.empty:
            yield button("What if (y)", "whatif")
        if not self.plan.empty and not self._refusal:
            yield button("Apply (a)", "apply", "primary")

    def on_mount(self) -> None:
        super().on_mount()
        if not self.plan.empty:
            self.run_worker(self._try, thread=True, group="whatif", exit_on_error=False)

    def _try(self) -> None:
        from xdpchain.trial.packets.sources import BUILTIN, packets_of
        from xdpchain.trial.whatif import what_if
        from xdptui.words.whatif_words import summary

        plan = self.plan
        try:
            packets = packets_of(BUILTIN, plan.running.interface).packets
            tried = what_if(plan.running, plan.candidate, packets, adopts=plan.adopts)
        except Exception as error:  # a plan needs no trial: shown in its place
            self.post_message(self.Tried(f"not tried: {error}"))
        else:
            own = any(one.packet.own for one in tried.changed)
            self.post_message(self.Tried(summary(tried), tried.new.why, own=own))

    def on_plan_dialog_tried(self, event: Tried) -> None:
        parts = [f" {event.text}"]
        if event.why:
            parts.append(f"   {event.why}")
        if event.own:
            parts.append(" ! your own ssh connection's packets are among those that change")
        shown = self.query_one("#packets", Static)
        shown.update(Content("\n".join(parts)))
        shown.remove_class("dim")
        shown.set_class(event.own, "warn")

    def dismissed(self) -> bool:
        return False

    def action_apply(self) -> None:
        if not self.plan.empty and not self._refusal:
            self.finish(True)

    def action_what_if(self) -> None:
        if not self.plan.empty:
            from xdptui.screens.whatif import WhatIfScreen

            self.app.push_screen(
                WhatIfScreen(self.plan.running, self.plan.candidate, adopts=self.plan.adopts)
            )

    def action_scroll(self, by: int) -> None:
        self.query_one("#body").scroll_relative(y=by, animate=False)

    @on(Button.Pressed)
    def pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "whatif":
            self.action_what_if()
        else:
            self.finish(event.button.id == "apply")
