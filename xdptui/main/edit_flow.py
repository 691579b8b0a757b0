# SPDX-License-Identifier: Apache-2.0
"""Edits of the candidate: what each key and each mouse gesture does to it; the kernel is not touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from xdpchain.errors import XdpChainError
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running
from xdptui.main.flow import Flow
from xdptui.widgets.chain_table import ChainTable

if TYPE_CHECKING:
    from xdptui.screens.load import Choice

# The dialogs are imported when they are asked for: the first screen should stand at once.

__all__ = ["EditFlow"]


class EditFlow(Flow):
    """The edits, each a new candidate."""

    last_directory: str | None = None

    def _edit(self, make: Callable[[Chain], Chain], slot: int | None = None) -> None:
        if not self.editable():
            return
        try:
            chain = make(self.session.chain)
        except XdpChainError as error:
            self.fail(error, "That edit is not possible")
            return
        self.put(self.session.edited(chain, slot))

    def _needs_slot(self) -> bool:
        if self.session.current is None:
            self.notify("There is no slot: press l to load a program", severity="warning")
            return False
        return True

    # Order

    def action_move(self, by: int) -> None:
        here = self.session.slot
        there = here + by
        if self._needs_slot() and 0 <= there < len(self.session.chain):
            self._edit(lambda chain: chain.move(here, there), there)

    def on_chain_table_moved(self, event: ChainTable.Moved) -> None:
        self._edit(lambda chain: chain.move(event.source, event.target), event.target)

    # Actions

    def action_flip(self) -> None:
        self._toggle(self.session.slot, self.session.action)

    def action_flip_action(self, letter: str) -> None:
        self._toggle(self.session.slot, Action.parse(letter))

    def on_chain_table_toggled(self, event: ChainTable.Toggled) -> None:
        self._toggle(event.slot, event.action or self.session.action)

    def _toggle(self, slot: int, action: Action) -> None:
        if not self._needs_slot():
            return
        self.put(replace(self.session.at_slot(slot), action=action))
        self._edit(lambda chain: chain.retune(slot, actions=chain.slots[slot].actions.toggle(action)), slot)

    # Routes

    def action_routes(self) -> None:
        if not self._needs_slot() or not self.editable():
            return
        if self.session.chain.linkage is Linkage.FREPLACE:
            self.notify(
                "A dispatcher that libxdp's tools can read knows only to go on or to return. "
                "Move the chain to static or tailcall linkage first (L)",
                title="freplace linkage has no routes",
                timeout=8,
            )
            return
        self.begin(self._routes_flow())

    async def _routes_flow(self) -> None:
        chain, index = self.session.chain, self.session.slot
        from xdptui.screens.routes import RoutesDialog

        routed = await self.app.push_screen_wait(RoutesDialog(chain, index, self.session.action))
        if routed is None or self._gone(chain.slots[index].key):
            return
        slot, here = routed.slots[index], {one.key for one in self.session.chain}
        routes = tuple(route for route in slot.routes if route.target in here)
        self._edit(lambda now: now.with_routes(now.position(slot.key), routes))

    # Policy

    def action_policy(self) -> None:
        if not self._needs_slot() or not self.editable():
            return
        if self.session.chain.linkage is not Linkage.STATIC:
            self.notify(
                "Only a dispatcher of ours sees a verdict before it counts. "
                "Move the chain to static linkage (L)",
                title=f"{self.session.chain.linkage} linkage keeps no policies",
                timeout=8,
            )
            return
        self.begin(self._policy_flow())

    async def _policy_flow(self) -> None:
        slot, index = self.session.chain.slots[self.session.slot], self.session.slot
        from xdptui.screens.policy import PolicyDialog

        decided = await self.app.push_screen_wait(PolicyDialog(slot, index))
        if decided is not None and not self._gone(slot.key):
            self._edit(lambda chain: chain.police(chain.position(slot.key), decided[0]))

    # Shadow

    def action_shadow(self) -> None:
        slot = self.session.slot
        if self._needs_slot():
            self._edit(lambda chain: chain.retune(slot, shadow=not chain.slots[slot].shadow), slot)

    # Priority

    def on_chain_table_priority_asked(self, event: ChainTable.PriorityAsked) -> None:
        self.put(self.session.at_slot(event.slot))
        self.action_priority()

    def action_priority(self) -> None:
        if self._needs_slot() and self.editable():
            self.begin(self._priority_flow())

    async def _priority_flow(self) -> None:
        chain, index = self.session.chain, self.session.slot
        key = chain.slots[index].key
        from xdptui.screens.priority import PriorityDialog

        value = await self.app.push_screen_wait(PriorityDialog(chain, index))
        if value is None or self._gone(key):
            return
        self._edit(lambda chain: chain.retune(chain.position(key), priority=value))
        if not self._gone(key):
            self.put(self.session.at_slot(self.session.chain.position(key)))

    def _gone(self, key: str) -> bool:
        """Whether a slot went away while a dialog was open."""
        if any(slot.key == key for slot in self.session.chain):
            return False
        self.notify("That slot is no longer there", severity="warning")
        return True

    # Counters

    def action_counters(self) -> None:
        if not self.session.chain.slots:
            self.notify("There is no chain yet", severity="warning")
            return
        if self.session.chain.linkage is Linkage.FREPLACE:
            self.notify(
                "A freplace chain has no counters of its own: it is counted while you look", timeout=5
            )
            return
        self._edit(lambda chain: replace(chain, counters=not chain.counters))

    # Linkage

    def action_relink(self) -> None:
        if not self.session.chain.slots:
            self.notify("There is no chain yet", severity="warning")
            return
        if not self.editable():
            return
        cycle = [Linkage.STATIC, Linkage.TAILCALL, Linkage.FREPLACE]
        wanted = cycle[(cycle.index(self.session.chain.linkage) + 1) % len(cycle)]
        if wanted is Linkage.FREPLACE and self.session.linkage is not Linkage.FREPLACE:
            wanted = Linkage.STATIC
            self.notify(
                self.session.linkage_why, title="freplace does not work here", severity="warning", timeout=8
            )
        self._edit(lambda chain: chain.relink(wanted))

    # Load, replace, unload

    def action_load(self) -> None:
        if self.session.running is not None and self.editable():
            self.begin(self._load_flow(self.session.running))

    async def _load_flow(self, running: Running) -> None:
        from xdptui.screens.load import LoadDialog

        dialog = LoadDialog(
            running, self.session.chain, directory=self.last_directory, linkage_why=self.session.linkage_why
        )
        choice = await self.app.push_screen_wait(dialog)
        self.last_directory = dialog.directory
        if choice is None or not self._still(running.interface.ifindex):
            return
        self._edit(lambda chain: _with_mode(chain, choice).add(choice.slot, choice.at))
        if any(slot.key == choice.slot.key for slot in self.session.chain):
            self.put(self.session.at_slot(self.session.chain.position(choice.slot.key)))

    def action_replace(self) -> None:
        if self.session.running is not None and self.editable() and self._needs_slot():
            self.begin(self._replace_flow(self.session.running))

    async def _replace_flow(self, running: Running) -> None:
        from xdptui.screens.load import LoadDialog

        current = self.session.chain.slots[self.session.slot]
        dialog = LoadDialog(
            running, self.session.chain, directory=self.last_directory, replaces=self.session.slot
        )
        choice = await self.app.push_screen_wait(dialog)
        self.last_directory = dialog.directory
        if choice is None or not self._still(running.interface.ifindex) or self._gone(current.key):
            return
        from xdpchain.objects.components import keep_maps

        component = choice.slot.component
        if current.id is not None:
            try:
                component = keep_maps(component, current.component)
            except XdpChainError as error:
                self.fail(error, "It can't take the program's place")
                return
        self._edit(lambda chain: chain.substitute(chain.position(current.key), component))

    def _still(self, ifindex: int) -> bool:
        """Whether the interface that a dialog was about is still there; it is selected again if so."""
        if any(r.interface.ifindex == ifindex for r in self.session.runnings):
            self.put(self.session.select(ifindex))
            return True
        self.notify("That interface is gone", severity="warning")
        return False

    def action_unload(self) -> None:
        if self.session.running is not None and self.editable() and self._needs_slot():
            self.begin(self._unload_flow(self.session.running))

    async def _unload_flow(self, running: Running) -> None:
        chain = self.session.chain
        from xdptui.screens.unload import UnloadDialog

        dialog = UnloadDialog(chain, self.session.slot, running.interface.name)
        chosen = await self.app.push_screen_wait(dialog)
        if not chosen or not self._still(running.interface.ifindex):
            return
        keys = {chain.slots[i].key for i in chosen}
        self._edit(lambda now: now.remove([i for i, slot in enumerate(now) if slot.key in keys]))


def _with_mode(chain: Chain, choice: Choice) -> Chain:
    return chain if chain.slots else replace(chain, mode=choice.mode)
