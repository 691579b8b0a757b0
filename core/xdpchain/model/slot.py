# SPDX-License-Identifier: Apache-2.0
"""A component's place in a chain, and libxdp's order of slots. Pure."""

from __future__ import annotations

import os
from dataclasses import field

from xdpchain.frozen import frozen

from .actions import ALL_ACTIONS, ActionSet
from .component import Component
from .labels import Labels
from .map_entries import MapEntry
from .policy import Policy
from .routes import Route
from .runconfig import RunConfig

__all__ = ["Slot", "order_key"]


def _fresh_key() -> str:
    return "new:" + os.urandom(4).hex()


@frozen
class Slot:
    """A component's place in a chain, with the priority and actions in force.

    ``key`` identifies the slot across edits, so that chains can be compared; ``row`` is its row in the
    counters map. ``routes`` are the return codes that lead to a named slot, sorted by code. With ``shadow``
    the component runs and is counted, but the next slot runs whatever it returns; the actions of ``config``
    and the routes apply once it leaves shadow. ``policy``: what it may return, if restricted. With ``off`` it
    does not run but keeps everything else, and whatever leads to it continues with the next slot.
    ``entries``: what its maps must contain before it runs (empty in a running chain). ``labels``: its
    operator's. ``program`` is the ID of the slot's own program in a running tail-call chain, which changes
    with each relinking edit while the component's ID stays. Under freplace linkage it is the program that
    replaces the component of a slot that is off.
    """

    component: Component
    config: RunConfig
    key: str = field(default_factory=_fresh_key)
    row: int | None = None
    routes: tuple[Route, ...] = ()
    shadow: bool = False
    policy: Policy | None = None
    program: int | None = field(default=None, compare=False)
    off: bool = False
    entries: tuple[MapEntry, ...] = field(default=(), compare=False)
    labels: Labels = ()

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def priority(self) -> int:
        return self.config.priority

    @property
    def actions(self) -> ActionSet:
        return self.config.actions

    @property
    def goes_on(self) -> ActionSet:
        """The actions after which the next slot runs: all of them for a shadow."""
        return ActionSet.of(*ALL_ACTIONS) if self.shadow else self.actions

    @property
    def id(self) -> int | None:
        return self.component.id

    @classmethod
    def of(
        cls,
        component: Component,
        priority: int | None = None,
        actions: ActionSet | None = None,
        *,
        shadow: bool = False,
        off: bool = False,
    ) -> Slot:
        """A new slot for ``component``; defaults are what the component declares."""
        declared = component.declared
        return cls(
            component,
            RunConfig(
                declared.priority if priority is None else priority,
                declared.actions if actions is None else actions,
            ),
            shadow=shadow,
            off=off,
        )


OrderKey = tuple[int, bytes, bool, int, str, int]


def order_key(slot: Slot) -> OrderKey:
    """libxdp's order: priority, name (as strcmp), loaded before unloaded, instructions if unloaded, tag, load
    time.
    """
    c = slot.component
    return (
        slot.priority,
        c.name.encode(),
        c.id is None,
        0 if c.id is not None else c.instructions or 0,
        c.tag or "",
        c.loaded_at or 0,
    )
