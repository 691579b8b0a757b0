# SPDX-License-Identifier: Apache-2.0
"""Undo: the last edit of the candidate; where there is none, the last change of what runs."""

from __future__ import annotations

import asyncio

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdptui.main.apply_flow import ApplyFlow

__all__ = ["UndoFlow"]


class UndoFlow(ApplyFlow):
    """The keys ``z`` and ``Z``."""

    def action_undo(self) -> None:
        session = self.session
        if session.edit is not None and session.edit.history.past:
            self.put(session.undone())
        elif session.changes:
            self.notify("Nothing to undo in this candidate (esc drops it)", timeout=3)
        elif session.running is not None and self.editable():
            self.begin(self._undo_flow(session.running))

    def action_redo(self) -> None:
        if self.session.edit is None or not self.session.edit.history.future:
            self.notify("Nothing to redo", timeout=2)
        else:
            self.put(self.session.redone())

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
            self.notify(f"{error.what}: {error.why}", timeout=4)
            return
        except XdpChainError as error:
            self.fail(error, "Not undone")
            return
        remarks = (f"this takes back {found.what}", *(f"lost: {what}" for what in found.lost))
        if await self.app.push_screen_wait(PlanDialog(plan, remarks=remarks)):
            await self._apply(plan)
