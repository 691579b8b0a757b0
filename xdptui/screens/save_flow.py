# SPDX-License-Identifier: Apache-2.0
"""Write the chain on the screen down as a spec."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from xdpchain.chain import Chain, Interface
from xdpchain.errors import XdpChainError
from xdptui.view.session import State

from .confirm import Confirm
from .flow import Flow

if TYPE_CHECKING:
    from xdpchain.spec.saving import Saved

    from .save import SaveTo

__all__ = ["SaveFlow"]


class SaveFlow(Flow):
    """Asks for a path, and never replaces a file unasked."""

    def action_save(self) -> None:
        session = self.session
        if session.running is None:
            self.notify("There is no interface to save", severity="warning")
        elif session.state in (State.FOREIGN, State.VIEW):
            self.notify(f"This hook can't be saved: {session.running.note}", severity="warning")
        else:
            what = "What runs is written down."
            if session.changes:
                what = "The candidate is written down, which does not run yet."
            self.begin(self._save_flow(session.running.interface, session.chain, what))

    async def _save_flow(self, where: Interface, chain: Chain, what: str) -> None:
        from .save import SaveDialog

        to = await self.app.push_screen_wait(SaveDialog(where.name, what))
        if to is None or not await self._may_write(to.path):
            return
        try:
            made = await asyncio.to_thread(_save, where, chain, to)
        except XdpChainError as error:
            self.fail(error, "Not saved")
            return
        more = f", with {len(made.files)} object files" if made.files else ""
        self.notify(f"{to.path}{more}", title=f"{where.name} is written down", timeout=5)
        for warning in made.warnings:
            self.notify(warning, severity="warning", timeout=15)

    async def _may_write(self, path: str) -> bool:
        if not os.path.lexists(path):
            return True
        question = Confirm("Replace the file?", (path, "What is in it now is lost."), "Replace it", "Keep it")
        answer = await self.app.push_screen_wait(question)
        return answer is True


def _save(where: Interface, chain: Chain, to: SaveTo) -> Saved:
    from xdpchain.spec.saving import saved, write_spec  # late: a replay runs where there is no BPF

    made = saved([(where, chain)], objects=to.objects, beside=to.path)
    write_spec(made, to.path, replace=True)
    return made
