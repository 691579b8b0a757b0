# SPDX-License-Identifier: Apache-2.0
"""Copy what is under the cursor to the clipboard, and the screen to the clipboard or a file."""

from __future__ import annotations

import os
from typing import Protocol

from xdptui.main.desk import Controller, Desk
from xdptui.screens.copy import Copyable, CopyDialog
from xdptui.settings import state_dir
from xdptui.view.session import Session

__all__ = ["Copies", "CopyFlow", "copyables"]


class Copies(Protocol):
    """What the application does with copies."""

    def copy(self, text: str, what: str) -> None: ...
    def screen_text(self) -> str: ...
    def save_screen(self, *, svg: bool) -> None: ...


def copyables(session: Session) -> list[Copyable]:
    """What can be copied of the selected interface and slot."""
    found: list[Copyable] = []
    running, slot = session.running, session.current
    if slot is not None:
        ident = f", id {slot.id}" if slot.id is not None else ""
        row = f"{session.slot} {slot.name}, priority {slot.priority}, continues on {slot.actions}{ident}"
        found.append(Copyable("n", "name of the slot", slot.name))
        if slot.id is not None:
            found.append(Copyable("i", "program id of the slot", str(slot.id)))
        if slot.component.tag:
            found.append(Copyable("g", "tag of the slot", slot.component.tag))
        found.append(Copyable("r", "the row", row))
    if running is not None:
        found.append(Copyable("d", "name of the interface", running.interface.name))
        words = ("up" if running.device.up else "down", running.mode, running.owner or "free")
        chain = running.chain or running.shown
        linked = f", {len(chain)} {chain.linkage}" if chain is not None else ""
        facts = " ".join(str(word) for word in words if word)
        found.append(Copyable("l", "its line", f"{running.interface.name} {facts}{linked}"))
        if running.hook is not None:
            found.append(Copyable("p", "program id on the hook", str(running.hook.prog_id)))
    return found


class CopyFlow(Controller):
    """The copy key."""

    keys = ("copy",)

    def __init__(self, desk: Desk, copies: Copies) -> None:
        super().__init__(desk)
        self._copies = copies

    def copy(self) -> None:
        self._desk.begin(self._copy_flow(self._copies.screen_text()))

    async def _copy_flow(self, screen: str) -> None:
        chosen = await self._desk.ask(CopyDialog(copyables(self.session), state_dir(os.environ)))
        if chosen is None:
            return
        if chosen.text:
            self._copies.copy(chosen.text, chosen.text)
        elif chosen.key == "s":
            self._copies.copy(screen, "the screen")
        else:
            self._copies.save_screen(svg=chosen.key == "v")
