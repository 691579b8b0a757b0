# SPDX-License-Identifier: Apache-2.0
"""The previous chain as a candidate: components that still run are kept, the others are reloaded from the
journal's object files.

Maps are referred to by ID. IDs are unique within a boot, so a map with the same ID is the same map with its
contents, whoever holds it. Lost contents of maps that are gone are reported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import field, replace

from xdpchain.advice import Do, advise
from xdpchain.change.moment import Moment
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.pending_change import Outcome
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.objfile import ObjectFile
from xdpchain.sys import bpf

from .entries import JournalEntry, past_with_changes
from .folders import folder_of
from .keeping import moment_of
from .store import MOST_ENTRIES, boot_id, entries, object_data

__all__ = ["NothingToUndo", "Undo", "history", "undo_of"]


class NothingToUndo(NotFound):
    """The journal has no chain before the running one."""


@frozen
class Undo:
    """An undo: the ``candidate``, the state that it ``restores`` (for `plan.make_plan`), a description of
    ``what`` it undoes, which map contents are ``lost``, and the components that are counted anew
    (``recounted``). ``held`` are descriptors of what is not lost, so keep this object until the candidate is
    applied.
    """

    candidate: Chain
    restores: Moment
    what: str
    lost: tuple[str, ...] = ()
    recounted: tuple[str, ...] = ()
    held: tuple[bpf.Fd, ...] = field(default=(), repr=False, compare=False)


def history(running: Running, newest: int = MOST_ENTRIES) -> tuple[JournalEntry, ...]:
    """The newest entries of an interface, oldest first, also those under another name or namespace."""
    folder = folder_of(running)
    return entries(folder, newest) if folder is not None else ()


def undo_of(running: Running, entry: int | None = None) -> Undo:
    """The undo of the last change, or of all changes since the one with this number in the journal, that one
    included. Raises NothingToUndo, NotFound (a component can't be reloaded).
    """
    known, now = history(running), moment_of(running)
    target, what = (
        _before_last(running, known, now) if entry is None else _before_entry(running, known, now, entry)
    )
    if target.chain is None:
        if target.program is not None:
            raise NothingToUndo(
                f"the change on {running.interface} can't be undone",
                f"program {target.program} ran before it, and only its id is known",
                advise(Do.ROLL_BACK, on=running.interface) if running.pending else "",
            )
        return Undo(replace(running.chain or Chain(), slots=()), target, what)
    keeping = _Keeping(here=target.boot == boot_id())
    candidate, lost, recounted = _restored(target.chain, running, keeping)
    return Undo(candidate, target, what, lost, recounted, tuple(keeping.held))


def _before_last(running: Running, known: tuple[JournalEntry, ...], now: Moment) -> tuple[Moment, str]:
    """The state before the last change, and that change in words."""
    where = running.interface
    led = past_with_changes(known)
    states = _up_to(now, tuple(state for state, _ in led), running)
    if not states:
        raise NothingToUndo(f"there is nothing to undo on {where}", "the journal has no changes for it")
    last = states[-1]
    if last.same(now):
        if len(states) < 2:
            raise NothingToUndo(f"there is nothing to undo on {where}", "the journal goes no further back")
        return states[-2], _words(led[len(states) - 1][1])
    if running.hook is None:
        return last, "the removal of the chain, by another tool or a reboot"
    ours = running.owner is Owner.XDPTUI
    return last, f"a change that {'the journal does not have' if ours else 'was not made with xdptui'}"


def _before_entry(
    running: Running, known: tuple[JournalEntry, ...], now: Moment, number: int
) -> tuple[Moment, str]:
    """The state before a change of the journal, and what was done since in words."""
    where = running.interface
    since = [entry for entry in known if entry.number >= number]
    if not since or since[0].number != number:
        raise NothingToUndo(f"there is nothing to undo on {where}", f"the journal has no change {number}")
    if since[0].before.same(now):
        raise NothingToUndo(
            f"there is nothing to undo on {where}", f"it runs what ran before change {number}"
        )
    if len(since) == 1:
        return since[0].before, _words(since[0])
    return since[0].before, f"changes {number} to {since[-1].number}"


def _up_to(now: Moment, states: tuple[Moment, ...], running: Running) -> tuple[Moment, ...]:
    """The states up to the running one, if it is an earlier state after a rollback that is not in the journal
    (yet). An empty hook is ambiguous, so there a recorded rollback outcome is required.
    """
    back = running.settled is not None and running.settled.outcome is Outcome.ROLLED_BACK
    if now.program is None and not back:
        return states
    same = [i for i, state in enumerate(states) if state.same(now)]
    return states[: same[-1] + 1] if same else states


def _words(entry: JournalEntry | None) -> str:
    if entry is None:
        return "the last change"
    return f"change {entry.number}, made by {entry.author}"


class _Keeping:
    """Holds objects that still exist, before the kernel frees them. ``here``: the IDs are from this boot."""

    def __init__(self, *, here: bool) -> None:
        self.here = here
        self.held: list[bpf.Fd] = []

    def map(self, map_id: int | None) -> bool:
        return self._has(bpf.map_by_id, map_id)

    def program(self, prog_id: int | None) -> bool:
        return self._has(bpf.prog_by_id, prog_id)

    def _has(self, find: Callable[[int], bpf.Fd], object_id: int | None) -> bool:
        if not self.here or not object_id:
            return False
        try:
            self.held.append(find(object_id))
        except bpf.BpfError:
            return False
        return True


def _restored(
    then: Chain, running: Running, keeping: _Keeping
) -> tuple[Chain, tuple[str, ...], tuple[str, ...]]:
    runs = {slot.key: slot.component for slot in running.chain or ()}
    lost: list[str] = []
    recounted: list[str] = []
    slots: list[Slot] = []
    for slot in then:
        now = runs.get(slot.key)
        if keeping.here and now is not None and _same(now, slot.component):
            slots.append(replace(slot, component=now))
            continue
        component, gone = _again(slot.component, keeping)
        counted_anew = then.counters and now is None and slot.component.object is not None
        if counted_anew:  # even if somebody still holds the program that counted
            component = replace(component, id=None, tag=None, loaded_at=None)
        slots.append(replace(slot, component=component, row=None))
        if gone:
            maps = f"map{'s' * (len(gone) != 1)} {', '.join(gone)}"
            lost.append(f"{slot.name} comes back without the contents of its {maps}")
        if counted_anew:
            recounted.append(slot.name)
    return replace(then, slots=tuple(slots)), tuple(lost), tuple(recounted)


def _same(now: Component, then: Component) -> bool:
    hashes = [component.object.sha256 if component.object else None for component in (now, then)]
    return (now.id, now.name, now.globals, hashes[0]) == (then.id, then.name, then.globals, hashes[1])


def _again(component: Component, keeping: _Keeping) -> tuple[Component, list[str]]:
    """A component that no longer runs, ready to be loaded, and the names of its lost maps."""
    source = component.object
    loaded = keeping.program(component.id)
    if source is None:
        if loaded:
            return component, []
        raise NotFound(
            f"{component.name} can't be brought back",
            "another tool loaded it, so its object file is not known, and it no longer runs",
            "Load it again from its object file",
        )
    data = object_data(source.sha256)
    alive = [ref for ref in component.maps if keeping.map(ref.id)]
    stateless = _stateless(data)
    gone = [ref.name for ref in component.maps if ref not in alive and ref.name not in stateless]
    # The linkable form refers to each of its maps.
    whole = len(alive) == len(component.maps) and keeping.map(component.unit_map)
    fresh = replace(
        component,
        object=replace(source, map_id=source.map_id if keeping.map(source.map_id) else None, data=data),
        maps=tuple(alive),
        unit_map=component.unit_map if whole else None,
    )
    return fresh if loaded else replace(fresh, id=None, tag=None, loaded_at=None), gone


def _stateless(data: bytes) -> frozenset[str]:
    """The maps that the object initializes: constants and program arrays."""
    with contextlib.suppress(XdpChainError):
        maps = ObjectFile.parse(data).maps
        filled = {bpf_map.name for bpf_map in maps if bpf_map.type == bpf.MapType.PROG_ARRAY}
        return frozenset(
            filled | {bpf_map.section for bpf_map in maps if bpf_map.section.startswith(".rodata")}
        )
    return frozenset()
