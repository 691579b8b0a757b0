# SPDX-License-Identifier: Apache-2.0
"""Adopt somebody else's program into a chain: from the object file to the swap."""

from __future__ import annotations

import asyncio

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Owner, Running
from xdptui.main.apply_flow import ApplyFlow
from xdptui.main.desk import Controller, Desk

__all__ = ["AdoptFlow"]


class AdoptFlow(Controller):
    """The key ``i`` on an interface whose program is not part of a chain."""

    keys = ("adopt",)

    def __init__(self, desk: Desk, apply: ApplyFlow) -> None:
        super().__init__(desk)
        self._apply = apply

    def adopt(self) -> None:
        session = self.session
        running = session.running
        if running is None or running.owner is not Owner.FOREIGN:
            self._desk.notify("Nothing to adopt: no foreign XDP program runs on this interface", timeout=4)
        elif session.read_only:
            self._desk.notify(f"Read-only: {', '.join(session.missing)} is missing")
        else:
            self._desk.begin(self._adopt_flow(running))

    async def _adopt_flow(self, running: Running) -> None:
        from xdpchain.change.adoption import check_adoptable
        from xdpchain.change.kernel_warnings import with_kernel_warnings
        from xdpchain.change.plan import make_plan
        from xdptui.screens.adopt import AdoptDialog

        try:
            await asyncio.to_thread(check_adoptable, running)  # may search for what holds it
        except XdpChainError as error:
            self._desk.fail(error, "Not adopted")
            return
        dialog = AdoptDialog(running, self._desk.directory)
        choice = await self._desk.ask(dialog)
        self._desk.directory = dialog.directory
        adoption = dialog.adoption
        if choice is None or adoption is None:
            return
        chain = adoption.candidate(choice.slot, choice.mode, self.session.linkage)
        try:
            plan = with_kernel_warnings(make_plan(running, chain, adopts=adoption.program))
        except XdpChainError as error:
            self._desk.fail(error, "Not adopted")
            return
        await self._apply.propose(plan, remarks=adoption.notes, waits=True)
