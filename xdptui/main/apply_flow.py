# SPDX-License-Identifier: Apache-2.0
"""From a candidate to what runs: plan, questions, apply; and the ways to drop a candidate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from xdpchain.change.plan import Change, ChangeKind, Plan, make_plan
from xdpchain.errors import Cancelled, RaceLost, XdpChainError
from xdpchain.model.chain import Mode
from xdpchain.model.running import Running
from xdptui.main.flow import Flow
from xdptui.screens.applying import Applying
from xdptui.screens.confirm import Confirm
from xdptui.view.session import CONFIRM_SECONDS, Session
from xdptui.widgets.chain_table import ChainTable
from xdptui.workers.feed import Feed

if TYPE_CHECKING:
    from xdpchain.trial.ssh_guard import Judgement
    from xdptui.workers.replay.feed import RecordedFeed

__all__ = ["ApplyFlow", "questions"]

CUT = "cut it"
"""What must be typed to cut one's own connection without a way back."""


def questions(
    plan: Plan, *, own: bool = False, confirm: float | None = None, judged: Judgement | None = None
) -> tuple[tuple[str, ...], str, str]:
    """What to ask before a plan is applied: the text, what the yes button says, and what must be typed.

    ``own``: the interface carries the operator's own connection, and ``judged`` says what became of it in a
    trial. Empty text where nothing can be lost.
    """
    text, yes, demand = _removals(plan)
    if not own:
        return text, yes, demand
    where = plan.running.interface.name
    cut: tuple[str, ...] = ()
    if judged is not None and judged.lost:
        if confirm is None:
            lines = (
                f"This would cut your own ssh connection through {where}.",
                f"Of its packets, tried on the candidate: {judged.text}.",
                "There will be no way back from here. w lets the change wait to be confirmed instead.",
            )
            return (*lines, *text), "Cut it", CUT
        cut = (f"It would cut it: {judged.text}.",)
    elif judged is not None and judged.unchecked:
        cut = (f"Whether it cuts it could not be tried: {judged.unchecked}.",)
    back = "There will be no way back if that cuts it: w lets the change wait to be confirmed."
    if confirm is not None:
        back = f"Unless you confirm it (C) in {confirm:.0f} s, it rolls back by itself."
    return (f"Your own connection comes in through {where}.", *cut, back, *text), yes or "Apply", where


def _removals(plan: Plan) -> tuple[tuple[str, ...], str, str]:
    gone = [change.name for change in plan.changes if change.kind is ChangeKind.REMOVE]
    where = plan.running.interface.name
    if not gone:
        return (), "", ""
    if not plan.candidate.slots:
        text = (
            f"{where} will run no XDP program any more.",
            f"Removed: {', '.join(gone)}. {_whose(gone)} maps and what is in them go too.",
        )
        return text, "Remove all", where
    text = (
        f"{len(gone)} program{'s' * (len(gone) != 1)} will be removed from {where}.",
        f"Removed: {', '.join(gone)}. {_whose(gone)} maps and what is in them go too; the rest runs on.",
    )
    return text, "Apply", ""


def _whose(gone: list[str]) -> str:
    return "Its" if len(gone) == 1 else "Their"


class ApplyFlow(Flow):
    """Plan, apply, drop, and the details of a slot."""

    feed: Feed | RecordedFeed

    def _plan(self) -> Plan | None:
        edit = self.session.edit
        if edit is None or not edit.changes:
            return None
        from xdpchain.change.kernel_warnings import with_kernel_warnings

        try:
            return with_kernel_warnings(make_plan(edit.base, edit.candidate))
        except XdpChainError as error:
            self.fail(error, "This candidate can't be applied")
            return None

    def action_plan(self) -> None:
        if self.session.changes:
            self.begin(self._plan_flow())
        else:
            self.notify("No changes: there is nothing to plan", timeout=3)

    async def _plan_flow(self) -> None:
        if self.session.stale:
            await self._resolve_stale()
            return
        plan = self._plan()
        if plan is None:
            return
        from xdptui.screens.plan import PlanDialog

        refusal = f"Read-only: {self.session.read_only_why}" if self.session.read_only else ""
        if await self.app.push_screen_wait(PlanDialog(plan, refusal)):
            await self._apply(plan)

    def action_what_if(self) -> None:
        session = self.session
        running = session.edit.base if session.edit is not None else session.running
        if running is None:
            self.notify("There is no interface to try packets on", timeout=2)
            return
        from xdptui.screens.whatif import WhatIfScreen

        self.app.push_screen(WhatIfScreen(running, session.chain, changes=session.changes > 0))

    def action_apply(self) -> None:
        if not self.session.changes:
            self.notify("No changes: there is nothing to apply", timeout=3)
        elif self.editable():
            self.begin(self._apply_flow())

    async def _apply_flow(self) -> None:
        if self.session.stale:
            await self._resolve_stale()
            return
        plan = self._plan()
        if plan is not None:
            await self._apply(plan)

    async def _apply(self, plan: Plan, *, waits: bool = False) -> None:
        """``waits``: to be confirmed, unless it was said that changes here need not be (w)."""
        where = plan.running.interface.name
        confirm = self.session.confirm
        if waits and self.session.waits.get(plan.running.interface.ifindex, True):
            confirm = CONFIRM_SECONDS
        own = plan.running.interface.ifindex in self.session.own
        judged = await self._judge(plan) if own else None
        text, yes, demand = questions(plan, own=own, confirm=confirm, judged=judged)
        if text:
            heading = "Your own connection" if own else "Remove programs"
            dialog = Confirm(heading, text, yes, "Keep as it is", demand=demand)
            if not await self.app.push_screen_wait(dialog):
                return
        self.applying = True
        try:
            outcome = await self.app.push_screen_wait(Applying(plan, confirm))
        finally:
            self.applying = False
        if not isinstance(outcome, Exception):
            self.put(self.session.applied(outcome))
            waits = outcome.armed is not None
            self.notify(f"{where}: {'waits to be confirmed: C keeps it' if waits else 'applied'}", timeout=4)
        elif isinstance(outcome, Cancelled):
            self.notify(f"{where}: cancelled, nothing was changed", severity="warning")
        else:
            self.fail(outcome, "Somebody else was faster" if isinstance(outcome, RaceLost) else "Not applied")
        self.after_apply()

    async def _judge(self, plan: Plan) -> Judgement | None:
        """Try the operator's own ssh packets on the candidate, in a thread."""
        from xdpchain.trial.ssh_guard import judge

        return await asyncio.to_thread(judge, plan.running, plan.candidate, adopts=plan.adopts)

    def after_apply(self) -> None:
        """Catch up with what happened meanwhile."""
        raise NotImplementedError

    async def _resolve_stale(self) -> None:
        session = self.session
        edit, running = session.edit, session.running
        if edit is None or running is None:
            return
        from xdptui.screens.stale import StaleDialog

        answer = await self.app.push_screen_wait(StaleDialog(running, _theirs(session), edit.changes))
        session = self.session
        if answer == "drop":
            self.put(session.dropped())
        elif answer == "rebase":
            rebased, lost = session.rebased()
            self.put(rebased)
            if lost:
                self.notify("\n".join(lost), title="Not carried over", severity="warning", timeout=10)
            else:
                self.notify("Your changes are made again on what runs now", timeout=4)

    def action_drop(self) -> None:
        if self.query_one(ChainTable).cancel_drag():
            return
        session = self.session
        if session.running is None or session.changes <= 1:
            self.put(session.dropped())
        else:
            self.begin(self._drop_flow(session, session.running))

    async def _drop_flow(self, session: Session, running: Running) -> None:
        dialog = Confirm(
            "Drop the candidate",
            (
                f"{session.changes} changes to {running.interface.name} will be forgotten.",
                "What runs is not touched.",
            ),
            "Drop",
            "Keep",
        )
        if not await self.app.push_screen_wait(dialog):
            return
        self.put(self.session.dropped())

    # Details

    def on_chain_table_opened(self, event: ChainTable.Opened) -> None:
        self.put(self.session.at_slot(event.slot))
        self.action_details()

    def action_details(self) -> None:
        running, slot = self.session.running, self.session.current
        if running is None or slot is None:
            self.notify("There is no slot to look into", timeout=2)
            return
        base = self.session.base
        was = next((s for s in base or () if s.key == slot.key), None)
        from xdptui.screens.details import DetailsScreen

        self.app.push_screen(DetailsScreen(running, slot, was))


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
