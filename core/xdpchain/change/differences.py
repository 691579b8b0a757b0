# SPDX-License-Identifier: Apache-2.0
"""The differences between two chains, slot by slot. Pure."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain
from xdpchain.model.labels import labels_text
from xdpchain.model.map_entries import by_map, entries_text
from xdpchain.model.routes import Route, route_name
from xdpchain.model.sharing import owners_of
from xdpchain.model.slot import Slot

__all__ = ["Change", "ChangeKind", "changes_between"]


class ChangeKind(StrEnum):
    """What happens to one slot, or to the chain as a whole."""

    ADD = "add"
    REMOVE = "remove"
    MOVE = "move"
    RETUNE = "retune"
    REPLACE = "replace"
    ADOPT = "adopt"
    FILL = "fill"
    CHAIN = "chain"


SYMBOLS = {
    ChangeKind.ADD: "+",
    ChangeKind.REMOVE: "-",
    ChangeKind.MOVE: "↕",
    ChangeKind.RETUNE: "~",
    ChangeKind.REPLACE: "≠",
    ChangeKind.ADOPT: "«",
    ChangeKind.FILL: "=",
    ChangeKind.CHAIN: "*",
}


@frozen
class Change:
    """One difference, as text. ``name`` is the component's and ``key`` the slot's; a change of the whole
    chain has neither.
    """

    kind: ChangeKind
    name: str
    text: str
    key: str = ""

    @property
    def symbol(self) -> str:
        return SYMBOLS[self.kind]


def changes_between(base: Chain | None, new: Chain) -> tuple[Change, ...]:
    """The differences by slot and of the whole chain. ``base`` is None if nothing runs."""
    old = base or replace(new, slots=())
    before = {slot.key: slot for slot in old.slots}
    after = {slot.key: slot for slot in new.slots}
    changes: list[Change] = []
    for i, slot in enumerate(old.slots):
        if slot.key not in after:
            changes.append(Change(ChangeKind.REMOVE, slot.name, f"slot {i}, {_config(slot)}", slot.key))
    away = _moved(old, new)
    for i, slot in enumerate(new.slots):
        if slot.key not in before:
            more = _rerouted(old, None, new, slot) + ([str(slot.policy)] if slot.policy else [])
            more += _sharing(new, slot)
            text = ", ".join((f"slot {i}", _config(slot), *more))
            changes.append(Change(ChangeKind.ADD, slot.name, text, slot.key))
            continue
        was = before[slot.key]
        if was.component != slot.component:
            text = ", ".join((_replaced(was, slot), *_sharing(new, slot)))
            changes.append(Change(ChangeKind.REPLACE, slot.name, text, slot.key))
        if slot.key in away:
            where = f"slot {old.position(slot.key)} → slot {i}"
            changes.append(Change(ChangeKind.MOVE, slot.name, where, slot.key))
        retuned = []
        if was.priority != slot.priority:
            retuned.append(f"priority {was.priority} → {slot.priority}")
        if was.actions != slot.actions:
            retuned.append(f"continues on {was.actions} → {slot.actions}")
        retuned += _rerouted(old, was, new, slot)
        if was.shadow != slot.shadow:
            retuned.append("in force → in shadow" if slot.shadow else "in shadow → in force")
        if was.off != slot.off:
            retuned.append("on → off" if slot.off else "off → on")
        if was.labels != slot.labels:
            said = [labels_text(version.labels) or "none" for version in (was, slot)]
            retuned.append(f"labels {' → '.join(said)}")
        if was.policy != slot.policy:
            retuned.append(str(slot.policy) if slot.policy else "may return anything")
        if retuned:
            changes.append(Change(ChangeKind.RETUNE, slot.name, ", ".join(retuned), slot.key))
    for slot in new.slots:
        for name, entries in by_map(slot.entries).items():
            changes.append(
                Change(ChangeKind.FILL, slot.name, f"map {name}: {entries_text(entries)}", slot.key)
            )
    if old.slots and new.slots:
        if old.linkage is not new.linkage:
            changes.append(Change(ChangeKind.CHAIN, "", f"linkage {old.linkage} → {new.linkage}"))
        elif new.dispatcher_version not in (None, old.dispatcher_version):
            versions = f"{old.dispatcher_version} → {new.dispatcher_version}"
            changes.append(Change(ChangeKind.CHAIN, "", f"dispatcher version {versions}"))
        if old.mode is not new.mode:
            changes.append(Change(ChangeKind.CHAIN, "", f"mode {old.mode} → {new.mode}"))
        if old.counters != new.counters:
            changes.append(Change(ChangeKind.CHAIN, "", f"counters {'on' if new.counters else 'off'}"))
    return tuple(changes)


def _rerouted(old: Chain, was: Slot | None, new: Chain, slot: Slot) -> list[str]:
    before = {route.code: route for route in was.routes} if was else {}
    after = {route.code: route for route in slot.routes}
    said = []
    for code in dict.fromkeys((*before, *after)):
        if before.get(code) != after.get(code):
            come = "no longer leads elsewhere"
            if code in after:
                come = f"leads to {_target(new, after[code])}"
            gone = f", no longer to {_target(old, before[code])}" if code in before and code in after else ""
            said.append(f"{route_name(code)} {come}{gone}")
    return said


def _sharing(chain: Chain, slot: Slot) -> list[str]:
    owners = owners_of(chain, slot).items()
    return [f"its map {name} is {chain.slots[place].name}'s {theirs}" for name, (place, theirs) in owners]


def _target(chain: Chain, route: Route) -> str:
    names = {slot.key: slot.name for slot in chain}
    return names.get(route.target, "a slot that is gone")


def _config(slot: Slot) -> str:
    shadow = ", in shadow" if slot.shadow else ""
    off = ", off" if slot.off else ""
    labels = f", labels {labels_text(slot.labels)}" if slot.labels else ""
    return f"priority {slot.priority}, continues on {slot.actions}{shadow}{off}{labels}"


def _replaced(was: Slot, now: Slot) -> str:
    def hash_of(slot: Slot) -> str:
        return slot.component.object.sha256[:12] if slot.component.object else f"id {slot.id}"

    name = f"{was.name} → {now.name}, " if was.name != now.name else ""
    # A component that names no maps gets new ones (`components.keep_maps`).
    maps = "keeping maps of the same shape" if now.component.maps else "with its own maps"
    return f"{name}object {hash_of(was)} → {hash_of(now)}, {maps}"


def _moved(old: Chain, new: Chain) -> frozenset[str]:
    """The keys of the slots that moved: the fewest that explain the order of ``new``, preferring those whose
    priority changed, since a move changes it.
    """
    before = {slot.key: (i, slot.priority) for i, slot in enumerate(old.slots)}
    kept = [slot for slot in new.slots if slot.key in before]

    def weight(run: tuple[Slot, ...]) -> tuple[int, int]:
        return len(run), sum(before[slot.key][1] == slot.priority for slot in run)

    rising: list[tuple[Slot, ...]] = [()]
    for slot in kept:
        runs = [run for run in rising if not run or before[run[-1].key] < before[slot.key]]
        rising.append((*max(runs, key=weight), slot))
    stay = {slot.key for slot in max(rising, key=weight)}
    return frozenset(slot.key for slot in kept if slot.key not in stay)
