# SPDX-License-Identifier: Apache-2.0
"""Edits of the candidate: what each key and mouse gesture does to it; the kernel is not touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xdpchain.change.plan import make_plan, policy_refusal
from xdpchain.errors import XdpChainError
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode, WantedMode
from xdpchain.model.paths import route_refusal
from xdptui.main.desk import Controller

# Import dialogs only when needed, so that the first screen appears at once.

__all__ = ["EditFlow"]


class EditFlow(Controller):
    """The edits; each makes a new candidate."""

    keys = (
        "move", "flip", "flip_action", "routes", "policy", "shadow", "off", "priority", "labels", "counters",
        "relink",
    )  # fmt: skip

    def edit(self, make: Callable[[Chain], Chain], slot: int | None = None) -> None:
        if not self._desk.editable():
            return
        try:
            chain = make(self.session.chain)
        except XdpChainError as error:
            self._desk.fail(error, "That edit is not possible")
            return
        self._desk.put(self.session.edited(chain, slot))

    # Order

    def move(self, by: int) -> None:
        here = self.session.slot
        there = here + by
        if not self._desk.needs_slot():
            return
        if not 0 <= there < len(self.session.chain):
            self._desk.notify(f"It is already the {'first' if by < 0 else 'last'} slot", timeout=2)
        else:
            self.edit(lambda chain: chain.move(here, there), there)

    def move_to(self, source: int, target: int) -> None:
        """Move a slot to another's place."""
        self.edit(lambda chain: chain.move(source, target), target)

    # Actions

    def flip(self) -> None:
        self.toggle(self.session.slot, self.session.action)

    def flip_action(self, letter: str) -> None:
        self.toggle(self.session.slot, Action.parse(letter))

    def toggle(self, slot: int, action: Action) -> None:
        if not self._desk.needs_slot():
            return
        self._desk.put(replace(self.session.at_slot(slot), action=action))
        self.edit(lambda chain: chain.retune(slot, actions=chain.slots[slot].actions.toggle(action)), slot)

    # Routes

    def routes(self) -> None:
        if not self._desk.needs_slot() or not self._desk.editable():
            return
        chain, running = self.session.chain, self.session.running
        slot = chain.slots[self.session.slot]
        if refused := route_refusal(chain, slot, running.interface if running else None):
            self._desk.refuse(refused)
            return
        self._desk.begin(self._routes_flow())

    async def _routes_flow(self) -> None:
        chain, index = self.session.chain, self.session.slot
        from xdptui.screens.routes import RoutesDialog

        routed = await self._desk.ask(RoutesDialog(chain, index, self.session.action))
        if routed is None or not self._desk.still_has(chain.slots[index].key):
            return
        slot, here = routed.slots[index], {shown.key for shown in self.session.chain}
        routes = tuple(route for route in slot.routes if route.target in here)
        self.edit(lambda now: now.with_routes(now.position(slot.key), routes))

    # Policy

    def policy(self) -> None:
        if not self._desk.needs_slot() or not self._desk.editable():
            return
        chain = self.session.chain
        slot = chain.slots[self.session.slot]
        if refused := policy_refusal(chain, slot):
            self._desk.refuse(refused)
            return
        self._desk.begin(self._policy_flow())

    async def _policy_flow(self) -> None:
        slot, index = self.session.chain.slots[self.session.slot], self.session.slot
        from xdptui.screens.policy import PolicyDialog

        decided = await self._desk.ask(PolicyDialog(slot, index))
        if decided is not None and self._desk.still_has(slot.key):
            self.edit(lambda chain: chain.police(chain.position(slot.key), decided[0]))

    # Shadow

    def shadow(self) -> None:
        slot = self.session.slot
        if self._desk.needs_slot():
            self.edit(lambda chain: chain.retune(slot, shadow=not chain.slots[slot].shadow), slot)

    # Off and on

    def off(self) -> None:
        slot = self.session.slot
        if self._desk.needs_slot():
            self.edit(lambda chain: chain.retune(slot, off=not chain.slots[slot].off), slot)

    # Priority

    def priority(self) -> None:
        if self._desk.needs_slot() and self._desk.editable():
            self._desk.begin(self._priority_flow())

    async def _priority_flow(self) -> None:
        chain, index = self.session.chain, self.session.slot
        key = chain.slots[index].key
        from xdptui.screens.priority import PriorityDialog

        value = await self._desk.ask(PriorityDialog(chain, index))
        if value is None or not self._desk.still_has(key):
            return
        self.edit(lambda chain: chain.retune(chain.position(key), priority=value))
        if self._desk.still_has(key):
            self._desk.put(self.session.at_slot(self.session.chain.position(key)))

    # Labels

    def labels(self) -> None:
        if self._desk.needs_slot() and self._desk.editable():
            self._desk.begin(self._labels_flow())

    async def _labels_flow(self) -> None:
        slot = self.session.chain.slots[self.session.slot]
        from xdptui.screens.labels import LabelsDialog

        change = await self._desk.ask(LabelsDialog(slot))
        if change and self._desk.still_has(slot.key):
            self.edit(lambda chain: chain.label(chain.position(slot.key), change))

    # Counters

    def counters(self) -> None:
        if not self.session.chain.slots:
            self._desk.notify("There is no chain yet")
            return
        self.edit(lambda chain: replace(chain, counters=not chain.counters))

    # Linkage

    def relink(self) -> None:
        if not self.session.chain.slots:
            self._desk.notify("There is no chain yet")
            return
        if not self._desk.editable():
            return
        self._desk.begin(self._relink_flow())

    async def _relink_flow(self) -> None:
        from xdptui.screens.linkage import KEYS, LinkageDialog, Offer

        session = self.session
        if session.running is None:
            return
        offers = [Offer(linkage, self._missing(linkage)) for linkage in KEYS.values()]
        chain = session.chain
        dialog = LinkageDialog(offers, chain.linkage, chain.mode, session.running.interface.name)
        wanted = await self._desk.ask(dialog)
        if isinstance(wanted, Mode):
            self.edit(lambda chain: replace(chain, mode=wanted))
        elif wanted is not None and wanted is not self.session.chain.linkage:
            self.edit(lambda chain: chain.relink(wanted))

    def _missing(self, linkage: Linkage) -> str:
        """Why the candidate can't be linked this way; empty if it can."""
        session = self.session
        if linkage.facts.libxdp and session.freplace_missing:
            return session.freplace_missing
        base = session.edit.base if session.edit else session.running
        if base is None:
            return "there is no interface"
        try:
            mode = WantedMode(session.chain.mode.value)
            make_plan(base, session.chain.relink(linkage), mode=mode)
        except XdpChainError as error:
            return error.why or error.what
        return ""
