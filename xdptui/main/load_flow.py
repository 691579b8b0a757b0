# SPDX-License-Identifier: Apache-2.0
"""Load programs into the candidate, replace them there, and unload them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from xdpchain.change.plan import make_plan
from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdptui.main.apply_flow import ApplyFlow
from xdptui.main.desk import Controller, Desk
from xdptui.main.detach_flow import detach_flow, held_by_a_link
from xdptui.main.edit_flow import EditFlow

if TYPE_CHECKING:
    from xdptui.screens.load import Choice

__all__ = ["LoadFlow"]


class LoadFlow(Controller):
    """The keys ``l``, ``o``, ``u`` and ``M``."""

    keys = ("load", "mark", "replace", "unload")

    def __init__(self, desk: Desk, edit: EditFlow, apply: ApplyFlow) -> None:
        super().__init__(desk)
        self._edit, self._apply = edit, apply

    def mark(self) -> None:
        """Mark the interface, or unmark it."""
        self._desk.put(self.session.mark())

    def load(self) -> None:
        if self.session.running is not None and self._desk.editable():
            self._desk.begin(self._load_flow(self.session.running))

    async def _load_flow(self, running: Running) -> None:
        from xdptui.screens.load import LoadDialog

        together = self.session.together
        dialog = LoadDialog(
            running,
            self.session.chain,
            directory=self._desk.directory,
            linkage_why=self.session.linkage_why,
            together=[each.interface.name for each in together],
        )
        choice = await self._desk.ask(dialog)
        self._desk.directory = dialog.directory
        if choice is None or not self._desk.still_at(running.interface.ifindex):
            return
        if self.session.together:
            await self._load_together(choice)
            return
        self._edit.edit(lambda chain: _with_mode(chain, choice).add(choice.slot, choice.at))
        if any(slot.key == choice.slot.key for slot in self.session.chain):
            self._desk.put(self.session.at_slot(self.session.chain.position(choice.slot.key)))

    async def _load_together(self, choice: Choice) -> None:
        """Load on all marked interfaces at once: a candidate belongs to a single interface."""
        from xdpchain.change.kernel_warnings import with_kernel_warnings

        plans = []
        for running in self.session.together:
            name = running.interface.name
            if self.session.edits.get(running.interface.ifindex) is not None:
                self._desk.notify(f"{name} has a candidate: apply or discard it first")
                return
            try:
                chain = running.chain or Chain(linkage=self.session.linkage)
                wanted = _with_mode(chain, choice).add(choice.slot, choice.at if running.chain else None)
                plans.append(with_kernel_warnings(make_plan(running, wanted)))
            except XdpChainError as error:
                self._desk.fail(error, f"It can't be loaded on {name}, so on none")
                return
        await self._apply.load_together(plans)

    def replace(self) -> None:
        if self.session.running is not None and self._desk.editable() and self._desk.needs_slot():
            self._desk.begin(self._replace_flow(self.session.running))

    async def _replace_flow(self, running: Running) -> None:
        from xdptui.screens.load import LoadDialog

        current = self.session.chain.slots[self.session.slot]
        dialog = LoadDialog(
            running, self.session.chain, directory=self._desk.directory, replaces=self.session.slot
        )
        choice = await self._desk.ask(dialog)
        self._desk.directory = dialog.directory
        if (
            choice is None
            or not self._desk.still_at(running.interface.ifindex)
            or not self._desk.still_has(current.key)
        ):
            return
        from xdpchain.objects.components import keep_maps

        component = choice.slot.component
        if current.id is not None:
            try:
                component = keep_maps(component, current.component)
            except XdpChainError as error:
                self._desk.fail(error, "It can't take the program's place")
                return
        self._edit.edit(lambda chain: chain.substitute(chain.position(current.key), component))

    def unload(self) -> None:
        running = self.session.running
        if running is not None and held_by_a_link(running) and not self.session.read_only:
            self._desk.begin(detach_flow(self._desk, running))
        elif self.session.running is not None and self._desk.editable() and self._desk.needs_slot():
            self._desk.begin(self._unload_flow(self.session.running))

    async def _unload_flow(self, running: Running) -> None:
        chain = self.session.chain
        from xdptui.screens.unload import UnloadDialog

        dialog = UnloadDialog(
            chain, self.session.slot, running.interface.name, keep_maps=self.session.keeps_maps
        )
        answer = await self._desk.ask(dialog)
        if answer is None or not self._desk.still_at(running.interface.ifindex):
            return
        keys = {chain.slots[i].key for i in answer.slots}
        self._edit.edit(lambda now: now.remove([i for i, slot in enumerate(now) if slot.key in keys]))
        self._desk.put(self.session.keeping_maps(answer.keep_maps))


def _with_mode(chain: Chain, choice: Choice) -> Chain:
    return chain if chain.slots else replace(chain, mode=choice.mode)
