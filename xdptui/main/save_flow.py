# SPDX-License-Identifier: Apache-2.0
"""Save the chain on the screen as a spec."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface
from xdptui.main.desk import Controller
from xdptui.screens.question import Confirm
from xdptui.view.session import BannerState

if TYPE_CHECKING:
    from xdpchain.spec.saving import Saved
    from xdptui.screens.save import SaveTo

__all__ = ["SaveFlow"]


class SaveFlow(Controller):
    """Asks for a path, and never replaces a file unasked."""

    keys = ("save",)

    def save(self) -> None:
        session = self.session
        if session.running is None:
            self._desk.notify("There is no interface to save")
        elif session.state in (BannerState.FOREIGN, BannerState.VIEW):
            self._desk.notify(f"This hook can't be saved: {session.running.note}")
        else:
            what = "Saves what runs."
            if not session.chain.slots:
                what = "Nothing runs here: the spec will say so."
            elif session.changes:
                what = "Saves the candidate, which does not run yet."
            self._desk.begin(self._save_flow(session.running.interface, session.chain, what))

    async def _save_flow(self, where: Interface, chain: Chain, what: str) -> None:
        from xdptui.screens.save import SaveDialog

        to = await self._desk.ask(SaveDialog(where.name, what))
        if to is None:
            return
        replace = await self._may_replace(to.path)
        if replace is None:
            return
        try:
            made = await asyncio.to_thread(_save, where, chain, to, replace)
        except XdpChainError as error:
            self._desk.fail(error, "Not saved")
            return
        more = f", with {len(made.files)} object files" if made.files else ""
        self._desk.notify(f"{to.path}{more}", title=f"{where.name} saved", timeout=5)
        for warning in made.warnings:
            self._desk.notify(warning, severity="warning", timeout=15)

    async def _may_replace(self, path: str) -> bool | None:
        """Whether to replace what is in the file; a spec is updated. None: leave the file alone."""
        if not os.path.lexists(path):
            return False
        from xdpchain.spec.files import read_text
        from xdpchain.spec.reading import parse

        try:
            parse(read_text(path), path)
        except XdpChainError:
            lines = (path, "It is not a spec. Its contents will be lost.")
            question = Confirm("Replace the file?", lines, "Replace it", "Keep it")
            answer = await self._desk.ask(question)
            return True if answer is True else None
        lines = (path, "This interface's entry is updated; other entries and comments stay.")
        question = Confirm("Update the file?", lines, "Update it", "Keep it", danger=False)
        answer = await self._desk.ask(question)
        return False if answer is True else None


def _save(where: Interface, chain: Chain, to: SaveTo, replace: bool) -> Saved:
    from xdpchain.spec.saving import saved, write_spec  # late: a replay runs where there is no BPF

    made = saved([(where, chain)], objects=to.objects, beside=to.path)
    write_spec(made, to.path, replace=replace)
    return made
