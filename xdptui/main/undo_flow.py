# SPDX-License-Identifier: Apache-2.0
"""Undo: the last edit of the candidate; where there is none, the last change of what runs."""

from __future__ import annotations

import asyncio

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdptui.main.apply_flow import ApplyFlow
from xdptui.main.desk import Actions, Controller, Desk

__all__ = ["UndoFlow"]


class UndoFlow(Controller):
    """The keys ``z`` and ``Z``."""

    def __init__(self, desk: Desk, apply: ApplyFlow) -> None:
        super().__init__(desk)
        self._apply = apply

    @property
    def actions(self) -> Actions:
        return {
            "undo": self.undo,
            "redo": self.redo,
        }

    def undo(self) -> None:
        session = self.session
        if session.edit is not None and session.edit.history.past:
            self._desk.put(session.undone())
        elif session.changes:
            self._desk.notify("Nothing to undo in this candidate (esc drops it)", timeout=3)
        elif session.running is not None and self._desk.editable():
            self._desk.begin(self._undo_flow(session.running))

    def redo(self) -> None:
        if self.session.edit is None or not self.session.edit.history.future:
            self._desk.notify("Nothing to redo", timeout=2)
        else:
            self._desk.put(self.session.redone())

    async def _undo_flow(self, running: Running) -> None:
        """Back to the chain before, by the journal: shown as a plan first."""
        from xdpchain.change.journal.undoing import NothingToUndo, undo_of
        from xdpchain.change.kernel_warnings import with_kernel_warnings
        from xdpchain.change.plan import make_plan
        from xdptui.screens.plan import PlanDialog

        try:
            found = await asyncio.to_thread(undo_of, running)
            plan = with_kernel_warnings(make_plan(running, found.candidate, restores=found.restores))
        except NothingToUndo as error:
            self._desk.notify(f"{error.what}: {error.why}", timeout=4)
            return
        except XdpChainError as error:
            self._desk.fail(error, "Not undone")
            return
        remarks = (f"this takes back {found.what}", *(f"lost: {what}" for what in found.lost))
        if await self._desk.ask(PlanDialog(plan, remarks=remarks)):
            await self._apply.carry_out(plan)
