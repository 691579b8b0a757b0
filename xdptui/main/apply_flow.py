# SPDX-License-Identifier: Apache-2.0
"""From a candidate to a running chain: plan, questions, apply; and the ways to discard a candidate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xdpchain.change.differences import Change
from xdpchain.change.plan import Plan, make_plan
from xdpchain.errors import Cancelled, RaceLost, XdpChainError
from xdpchain.model.interface import Mode, WantedMode
from xdpchain.model.naming import some
from xdptui.main.desk import Controller, Desk
from xdptui.main.questions import questions
from xdptui.screens.applying import Applying
from xdptui.screens.question import Confirm
from xdptui.view.session import Session
from xdptui.view.traffic_effects import traffic_effects
from xdptui.workers.meter import Meter

if TYPE_CHECKING:
    from xdpchain.trial.ssh_guard import Judgement

__all__ = ["ApplyFlow"]


class ApplyFlow(Controller):
    """Plan, apply, discard. ``done`` is called after each attempt, to process what happened meanwhile."""

    keys = ("plan", "apply", "drop")

    def __init__(self, desk: Desk, meter: Meter, done: Callable[[], None]) -> None:
        super().__init__(desk)
        self._meter, self._done = meter, done

    def _made(self) -> Plan | None:
        edit = self.session.edit
        if edit is None or not edit.changes:
            return None
        from xdpchain.change.kernel_warnings import with_kernel_warnings

        try:
            # A candidate's mode is what the operator asked for, even if the chain runs in another mode.
            mode = WantedMode(edit.candidate.mode.value)
            keep_maps = self.session.keeps_maps
            return with_kernel_warnings(make_plan(edit.base, edit.candidate, mode=mode, keep_maps=keep_maps))
        except XdpChainError as error:
            self._desk.fail(error, "This candidate can't be applied")
            return None

    def plan(self) -> None:
        if self.session.changes:
            self._desk.begin(self._plan_flow())
        else:
            self._desk.notify("No changes: there is nothing to plan", timeout=3)

    async def _plan_flow(self) -> None:
        if self.session.stale:
            await self._resolve_stale()
            return
        plan = self._made()
        if plan is not None:
            await self.propose(plan)

    async def propose(self, plan: Plan, *, remarks: tuple[str, ...] = (), waits: bool = False) -> None:
        """Show a plan, and carry it out if the operator agrees. ``waits`` as in `carry_out`."""
        from xdptui.screens.plan import PlanDialog

        base, reading = plan.running.chain, self._meter.last(plan.running.interface.ifindex)
        traffic = traffic_effects(base, plan.candidate, reading) if base and reading else ()
        rate = reading.verdict_rates.all_packets if reading and reading.verdict_rates else None
        confirm = self._confirm(plan, waits)
        refusal = self._refusal(plan, waits)
        dialog = PlanDialog(plan, refusal, remarks, traffic=traffic, rate=rate, confirm=confirm)
        if await self._desk.ask(dialog):
            await self.carry_out(plan, waits=waits, seen=True)

    def apply(self) -> None:
        if not self.session.changes:
            self._desk.notify("No changes: there is nothing to apply", timeout=3)
        elif self._desk.editable():
            self._desk.begin(self._apply_flow())

    async def _apply_flow(self) -> None:
        if self.session.stale:
            await self._resolve_stale()
            return
        plan = self._made()
        if plan is None:
            return
        if plan.warnings or self._refusal(plan):  # nobody applies past a warning without having seen it
            await self.propose(plan)
        else:
            await self.carry_out(plan)

    async def carry_out(self, plan: Plan, *, waits: bool = False, seen: bool = False) -> None:
        """``waits``: needs confirmation, unless that is turned off here (w). ``seen``: the plan, which names
        what is removed, was shown, so ask only if something must be typed.
        """
        confirm = self._confirm(plan, waits)
        own = plan.running.interface.ifindex in self.session.own
        judged = await self._judge(plan) if own else None
        text, yes, demand = questions(plan, own=own, confirm=confirm, judged=judged)
        if text and (demand or not seen):
            heading = "Your own connection" if own else "Remove programs"
            dialog = Confirm(heading, text, yes, "Keep as it is", demand=demand)
            if not await self._desk.ask(dialog):
                return
        await self._apply_all([plan], confirm)

    def _refusal(self, plan: Plan, waits: bool = False) -> str:
        """Why this can't be applied, as far as that is known beforehand; ``waits`` as in `carry_out`."""
        if self.session.read_only:
            return f"Read-only: {self.session.read_only_why}"
        if self.session.unconfirmable and self._confirm(plan, waits) is not None:
            return f"It can't be applied with a rollback: {self.session.unconfirmable}"
        return ""

    def _confirm(self, plan: Plan, waits: bool) -> float | None:
        """Seconds until this must be confirmed, None if it need not be; ``waits`` as in `carry_out`."""
        return self.session.confirm_on(plan.running.interface.ifindex, usual=waits)

    async def load_together(self, plans: Sequence[Plan]) -> None:
        """Carry out the plans of several interfaces, all or none, after a question."""
        own = [plan for plan in plans if plan.running.interface.ifindex in self.session.own]
        confirm = self.session.confirm_on(*(plan.running.interface.ifindex for plan in plans))
        if confirm is not None and self.session.unconfirmable:
            self._desk.notify(self.session.unconfirmable, title="Not loaded", severity="warning", timeout=10)
            return
        lines = []
        for plan in plans:
            name = plan.running.interface.name
            lines += [f"{name}: {change.symbol} {change.name} {change.text}" for change in plan.changes]
            lines += [f"{name}: {warning.text}" for warning in plan.warnings]
        if confirm is not None:
            lines.append(f"Unless you confirm it (C) within {confirm:.0f} s, it rolls back on all of them.")
        dialog = Confirm(f"Load on {len(plans)} interfaces, or on none", tuple(lines), "Load", "Leave them")
        if not await self._desk.ask(dialog):
            return
        for plan in own:
            judged = await self._judge(plan)
            text, yes, demand = questions(plan, own=True, confirm=confirm, judged=judged)
            asked = Confirm("Your own connection", text, yes, "Keep as it is", demand=demand)
            if not await self._desk.ask(asked):
                return
        await self._apply_all(plans, confirm)

    async def _apply_all(self, plans: Sequence[Plan], confirm: float | None) -> None:
        where = some(plan.running.interface.name for plan in plans)
        self._desk.applying = True
        try:
            outcome = await self._desk.ask(Applying(plans, confirm))
        finally:
            self._desk.applying = False
            self._desk.changed_at = time.monotonic()
        assert outcome is not None  # this dialog is shown only with an outcome
        if not isinstance(outcome, Exception):
            for running in outcome:
                self._desk.put(self.session.applied(running))
            waits = any(running.pending is not None for running in outcome)
            text = "change pending. C confirms it, B rolls it back" if waits else "applied"
            self._desk.notify(f"{where}: {text}", timeout=4)
        elif isinstance(outcome, Cancelled):
            self._desk.notify(f"{where}: cancelled, nothing was changed")
        else:
            self._desk.fail(
                outcome, "The chain was changed meanwhile" if isinstance(outcome, RaceLost) else "Not applied"
            )
        self._done()

    async def _judge(self, plan: Plan) -> Judgement | None:
        """Try the operator's own ssh packets on the candidate, in a thread."""
        from xdpchain.trial.ssh_guard import judge

        return await asyncio.to_thread(judge, plan.running, plan.candidate, adopts=plan.adopts)

    async def _resolve_stale(self) -> None:
        session = self.session
        edit, running = session.edit, session.running
        if edit is None or running is None:
            return
        from xdptui.screens.stale import StaleDialog

        answer = await self._desk.ask(StaleDialog(running, _theirs(session), edit.changes))
        session = self.session
        if answer == "drop":
            self.drop()
        elif answer == "rebase":
            rebased, lost = session.rebased()
            self._desk.put(rebased)
            if lost:
                self._desk.notify("\n".join(lost), title="Not carried over", severity="warning", timeout=10)
            else:
                self._desk.notify("Your changes were repeated on what runs now", timeout=4)

    def drop(self) -> None:
        """Discard the candidate; Z brings it back."""
        session = self.session
        self._desk.put(session.dropped())
        if session.changes and session.running is not None:
            changes = f"{session.changes} change{'s' * (session.changes != 1)}"
            self._desk.notify(
                f"{session.running.interface.name}: candidate with {changes} discarded. Z brings it back",
                timeout=6,
            )


def _theirs(session: Session) -> tuple[Change, ...]:
    edit, running = session.edit, session.running
    assert edit is not None
    assert running is not None
    if running.chain is None or edit.base.chain is None or running.mode is Mode.OFFLOAD:
        return ()
    try:
        return make_plan(edit.base, running.chain).changes
    except XdpChainError:
        return ()
