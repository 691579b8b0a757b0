# SPDX-License-Identifier: Apache-2.0
"""The plan: objections first, then the changes, their effect on traffic, and the steps."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Button, Static

from xdpchain.change.differences import Change, ChangeKind
from xdpchain.change.plan import Plan
from xdpchain.errors import XdpChainError
from xdptui.screens.dialog import Dialog, button, paragraph
from xdptui.view.facts import finding_text
from xdptui.view.traffic_effects import sampled_effects
from xdptui.words.advice import told, worded
from xdptui.words.plan_words import grouped
from xdptui.workers.plan_check import PlanCheck, check_plan, sample_plan

if TYPE_CHECKING:
    from xdpchain.trial.whatif import WhatIf

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


def change_line(change: Change, place: int | None = None) -> Content:
    """One difference, its symbol first; ``place`` distinguishes slots of the same name."""
    who = change.name or "chain"
    return Content.assemble(
        (f" {change.symbol} ", f"bold {STYLE[change.kind]}"),
        (who if place is None else f"{place} {who}", "bold"),
        f"  {change.text}",
    )


def place_of(change: Change, plan: Plan) -> int | None:
    """The slot that a change concerns: its index in the candidate, or where it runs if the candidate lacks
    it."""
    for chain in (plan.candidate, plan.running.chain or ()):
        for i, slot in enumerate(chain):
            if change.key and slot.key == change.key:
                return i
    return None


def loses_maps(plan: Plan) -> bool:
    """Whether maps of a removed slot would be lost that could be kept."""
    removed = {change.name for change in plan.changes if change.kind is ChangeKind.REMOVE}
    lost = (f"{name} is removed, and the contents of its maps are lost" for name in removed)
    return any(warning.text.startswith(tuple(lost)) for warning in plan.warnings)


class PlanDialog(Dialog[bool]):
    """True if the user wants it applied. ``traffic`` says what the counters tell about the effect on current
    packets, which arrive at ``rate`` per second (None: unknown). ``confirm``: seconds until it must be
    confirmed.
    """

    DEFAULT_CSS = """
    PlanDialog #box { width: 100; }
    PlanDialog #body { padding: 0 1 0 1; }
    PlanDialog .section { color: $primary; text-style: bold; margin: 1 0 0 0; }
    PlanDialog .first { margin: 0; }
    PlanDialog.-low .section { margin: 0; }
    PlanDialog #trouble { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "apply", show=False),
        Binding("p", "back", show=False),
        Binding("y", "what_if", show=False),
        Binding("d", "log", show=False),
        Binding("s", "sample", show=False),
    ]

    def __init__(
        self,
        plan: Plan,
        refusal: str = "",
        remarks: tuple[str, ...] = (),
        *,
        traffic: tuple[str, ...] = (),
        rate: float | None = None,
        confirm: float | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self._remarks, self._traffic, self._rate = remarks, traffic, rate
        self._confirm = confirm
        self._sampling: threading.Event | None = None
        self._refusal = refusal
        self._refused: XdpChainError | None = None
        self._warnings = len(plan.warnings)
        self.heading = f"Plan for {plan.running.interface.name}"

    @property
    def _barred(self) -> bool:
        """Whether it can't be applied."""
        return self.plan.empty or bool(self._refusal) or self._refused is not None

    def body(self) -> ComposeResult:
        plan = self.plan
        yield paragraph("", id="trouble")
        if self._refusal:
            yield paragraph(self._refusal, classes="bad")
        if plan.warnings:
            yield paragraph(f"Warnings ({len(plan.warnings)})", classes="section first", id="warnings")
        else:
            yield paragraph("Warnings: none", classes="first dim", id="warnings")
        for warning in plan.warnings:
            where = "" if warning.slot is None else f"slot {warning.slot}: "
            yield paragraph(Content.assemble((" ! ", "bold $warning"), where, warning.text))
        if loses_maps(plan):
            yield paragraph("   k in the unload dialog (u) keeps the maps for a week", classes="dim")
        yield paragraph("", id="findings", classes="gone")
        if self._confirm is not None and not self._barred:
            waits = f"Rolls back unless confirmed (C) within {self._confirm:.0f} s."
            yield paragraph(waits, classes="strong")
        if plan.empty:
            yield paragraph("No differences: the candidate already runs.", classes="strong")
        else:
            yield paragraph("Changes", classes="section")
            for change in grouped(plan.changes):
                yield paragraph(change_line(change, place_of(change, plan)))
        for remark in self._remarks:
            yield paragraph(remark, classes="gap")
        if not plan.empty:
            yield paragraph("Traffic now", classes="section")
            for sentence in self._traffic:
                yield paragraph(f" {sentence}")
            yield paragraph(self._before_sampling, id="sampled", classes="dim")
            yield paragraph("What if", classes="section")
            yield paragraph(" linking the candidate in the background…", id="packets", classes="dim")
            yield paragraph("Steps", classes="section")
            for i, step in enumerate(plan.steps, 1):
                yield paragraph(f" {i}. {step}")

    def buttons(self) -> ComposeResult:
        yield button("Back (esc)", "back")
        if not self.plan.empty:
            yield button("What if (y)", "what_if")
        if not self._barred:
            yield button(self._label, "apply", "primary")

    @property
    def _before_sampling(self) -> str:
        if self._refusal:
            return " not sampled: it can't be applied"
        return (
            " Press s to try current traffic: for a second a recording copy of the chain runs, and no "
            "packet is lost."
        )

    @property
    def _label(self) -> str:
        count = self._warnings
        return "Apply (a)" if not count else f"Apply with {count} warning{'s' * (count != 1)} (a)"

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#findings").display = False
        if not self.plan.empty:
            self.ask(partial(check_plan, self.plan), self._checked, "check")
            from xdpchain.follow.sample import sampling_swaps

            if not sampling_swaps(self.plan.running):
                self.action_sample()  # it touches nothing that runs

    def on_unmount(self) -> None:
        if self._sampling is not None:
            self._sampling.set()  # applying need not wait for the rest

    def _checked(self, found: PlanCheck | Exception) -> None:
        if isinstance(found, Exception):  # applying works without the check
            found = PlanCheck(packets=f"not tried: {told(found)}")
        if found.refusal is not None:
            self._refuse(found.refusal)
        if found.findings:
            self._add(found)
        parts = [f" {found.packets}" if found.packets else " not tried"]
        parts += [
            f"   {text}" for text in (found.why, found.note if "not tried" in found.note else "") if text
        ]
        if found.own:
            parts.append(" ! this affects your own ssh connection's packets")
        shown = self.query_one("#packets", Static)
        shown.update(Content("\n".join(parts)))
        shown.remove_class("dim")
        shown.set_class(found.own, "warn")

    def action_sample(self) -> None:
        """Try a sample of current packets on both chains; only one trial runs at a time."""
        if self.plan.empty or self._refusal or self._sampling is not None:
            return
        stop = self._sampling = threading.Event()
        self.query_one("#sampled", Static).update(" sampling current traffic…")
        self.ask(partial(sample_plan, self.plan, stop), self._sampled, "sample")

    def _sampled(self, sample: tuple[WhatIf, tuple[str, ...]] | Exception) -> None:
        self._sampling = None
        if isinstance(sample, Exception):  # applying works without it
            lines = [f"not sampled: {told(sample, keys=True)}"]
        else:
            found, notes = sample
            lines = [*sampled_effects(found, self._rate), *found.unknown, *notes]
        shown = self.query_one("#sampled", Static)
        shown.update(Content("\n".join(f" {line}" for line in lines)))
        shown.set_class(isinstance(sample, Exception), "dim")

    def _refuse(self, error: XdpChainError) -> None:
        """The kernel rejects this candidate: say so first, and remove the button."""
        self._refused = error
        self.add_class("-danger")
        lines = [Content.assemble(("✗ ", "bold $error"), (f"It can't be applied: {error.what}", "$error"))]
        if error.why:
            lines.append(Content(f"  {error.why}"))
        if error.todo:
            lines.append(Content(f"  {worded(error.todo, keys=True)}"))
        if error.detail:
            lines.append(Content.styled("  Press d for the verifier's log", "bold"))
        shown = self.query_one("#trouble", Static)
        shown.update(Content("\n").join(lines))
        shown.display = True
        for apply in self.query("#apply").results(Button):
            apply.disabled = True
            apply.label = "Refused by the kernel"
        self.query_one("#body").scroll_home(animate=False)

    def _add(self, found: PlanCheck) -> None:
        """Objections to the new components go with the warnings."""
        self._warnings += len(found.findings)
        lines = []
        for finding in found.findings:
            sign, style, text = finding_text(finding)
            lines.append(Content.assemble((f" {sign} ", f"bold {style}"), text))
        shown = self.query_one("#findings", Static)
        shown.update(Content("\n").join(lines))
        shown.display = True
        heading = self.query_one("#warnings", Static)
        heading.update(Content(f"Warnings ({self._warnings})"))
        heading.set_classes("section first")
        if self._refused is None:
            for apply in self.query("#apply").results(Button):
                apply.label = self._label

    def dismissed(self) -> bool:
        return False

    def action_apply(self) -> None:
        if not self._barred:
            self.finish(True)

    def action_log(self) -> None:
        if self._refused is not None and self._refused.detail:
            from xdptui.screens.failure import Failure

            heading, netns = "This candidate can't be applied", self.plan.running.interface.netns
            self.app.push_screen(Failure(self._refused, heading, netns=netns, detailed=True))

    def action_what_if(self) -> None:
        if not self.plan.empty:
            from xdptui.screens.whatif import WhatIfScreen

            self.app.push_screen(
                WhatIfScreen(self.plan.running, self.plan.candidate, adopts=self.plan.adopts)
            )
