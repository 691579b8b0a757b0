# SPDX-License-Identifier: Apache-2.0
"""Undo the last edit of the candidate; without one, the last change of what runs."""

from __future__ import annotations

import asyncio

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdptui.main.apply_flow import ApplyFlow
from xdptui.main.desk import Controller, Desk
from xdptui.view.notices import unread
from xdptui.words.history_words import undo_notes

__all__ = ["UndoFlow"]


class UndoFlow(Controller):
    """The keys ``z`` and ``Z``."""

    keys = ("undo", "redo", "history")

    def __init__(self, desk: Desk, apply: ApplyFlow) -> None:
        super().__init__(desk)
        self._apply = apply

    def undo(self) -> None:
        session = self.session
        if session.edit is not None and session.edit.history.past:
            self._desk.put(session.undone())
        elif session.changes:
            self._desk.notify("Nothing to undo in this candidate (esc discards it)", timeout=3)
        elif session.running is not None and self._desk.editable():
            self._desk.begin(self._undo_flow(session.running))

    def redo(self) -> None:
        if self.session.may_redo:
            self._desk.put(self.session.redone())
        else:
            self._desk.notify("Nothing to redo", timeout=2)

    def history(self) -> None:
        self._desk.begin(self._history_flow())

    async def _history_flow(self) -> None:
        """Show past changes and messages; go back to the previous chain if the user wants that."""
        from xdptui.screens.history import LAST, HistoryScreen

        session, notices, edits = self.session, tuple(self._desk.notices), tuple(self._desk.map_edits)
        running = session.running
        may_undo = running is not None and not session.read_only and not session.changes and running.editable
        unseen = unread(self._desk.notices) > 0
        which = await self._desk.ask(
            HistoryScreen(running, notices, edits, may_undo=may_undo, messages=unseen)
        )
        self._desk.read_notices()
        if which is None or running is None or not self._desk.still_at(running.interface.ifindex):
            return
        await self._undo_flow(self.session.running or running, None if which == LAST else which)

    async def _undo_flow(self, running: Running, entry: int | None = None) -> None:
        """Go back to the previous chain from the journal; shown as a plan first."""
        from xdpchain.change.journal.undoing import NothingToUndo, undo_of
        from xdpchain.change.kernel_warnings import with_kernel_warnings
        from xdpchain.change.plan import make_plan

        try:
            found = await asyncio.to_thread(undo_of, running, entry)
            plan = with_kernel_warnings(
                make_plan(running, found.candidate, restores=found.restores, lost=found.lost)
            )
        except NothingToUndo as error:
            self._desk.notify(f"{error.what}: {error.why}", timeout=4)
            return
        except XdpChainError as error:
            self._desk.fail(error, "Not undone")
            return
        await self._apply.propose(plan, remarks=undo_notes(found))
