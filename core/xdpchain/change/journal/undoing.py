# SPDX-License-Identifier: Apache-2.0
"""The chain before, as a candidate: components that still run are taken as they run, the others loaded again
from the journal's object files.

A map is named by the id that it had. The kernel gives an id once a boot, so a map with that id is the same
map with all that is in it, whoever holds it; one that is gone took its content with it, which is said.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from xdpchain.advice import Do, advise
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.chain import Chain, Component, Slot
from xdpchain.model.pending_change import Outcome
from xdpchain.model.running import Running
from xdpchain.objects.objfile import ObjectFile
from xdpchain.sys import bpf

from .entries import JournalEntry, Moment, past_with_changes
from .recording import moment_of
from .store import boot_id, entries, object_data
from .whereabouts import folder_of

__all__ = ["NothingToUndo", "Undo", "history", "undo_of"]


class NothingToUndo(NotFound):
    """The journal knows of no chain before the one that runs."""


@dataclass(frozen=True, slots=True)
class Undo:
    """An undo: the ``candidate``, the state that it ``restores`` (for `plan.make_plan`), in words
    ``what`` it takes back, and what is ``lost`` of the state of those components. ``held`` are descriptors of
    what is not lost, so keep this until the candidate is applied.
    """

    candidate: Chain
    restores: Moment
    what: str
    lost: tuple[str, ...] = ()
    held: tuple[bpf.Fd, ...] = field(default=(), repr=False, compare=False)


def history(running: Running) -> tuple[JournalEntry, ...]:
    """The journal's entries of an interface, oldest first, also of the time when it had another name or was
    in another namespace.
    """
    folder = folder_of(running)
    return entries(folder) if folder is not None else ()


def undo_of(running: Running) -> Undo:
    """The way back from what runs. Raises NothingToUndo, and NotFound for a component that can't be had
    again.
    """
    where, known = running.interface, history(running)
    now = moment_of(running)
    led = past_with_changes(known)
    states = _up_to(now, tuple(state for state, _ in led), running)
    if not states:
        raise NothingToUndo(f"there is nothing to undo on {where}", "the journal has no changes for it")
    last = states[-1]
    if last.same(now):
        if len(states) < 2:
            raise NothingToUndo(f"there is nothing to undo on {where}", "the journal goes no further back")
        target, what = states[-2], _words(led[len(states) - 1][1])
    else:
        target, what = last, "a change that was not made with xdptui"
        if running.hook is None:
            what = "the removal of the chain, by another tool or a reboot"
    if target.chain is None:
        if target.program is not None:
            raise NothingToUndo(
                f"the change on {where} can't be undone",
                f"program {target.program} ran before it, and only its id is known",
                advise(Do.ROLL_BACK, on=where) if running.armed else "",
            )
        return Undo(replace(running.chain or Chain(), slots=()), target, what)
    keeping = _Keeping(here=target.boot == boot_id())
    candidate, lost = _restored(target.chain, running, keeping)
    return Undo(candidate, target, what, lost, tuple(keeping.held))


def _up_to(now: Moment, states: tuple[Moment, ...], running: Running) -> tuple[Moment, ...]:
    """Without what came after the state that runs, where it is back: a rollback that is not in the journal
    (yet). An empty hook is many states, so there the kernel's word for it is needed.
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
    """Takes hold of what still lives, for the kernel may be about to free it. ``here``: its ids are of this
    boot.
    """

    def __init__(self, *, here: bool) -> None:
        self.here = here
        self.held: list[bpf.Fd] = []

    def map(self, map_id: int | None) -> bool:
        return self._has(bpf.map_by_id, map_id)

    def program(self, prog_id: int | None) -> bool:
        return self._has(bpf.prog_by_id, prog_id)

    def _has(self, find: Callable[[int], bpf.Fd], number: int | None) -> bool:
        if not self.here or not number:
            return False
        try:
            self.held.append(find(number))
        except bpf.BpfError:
            return False
        return True


def _restored(then: Chain, running: Running, keeping: _Keeping) -> tuple[Chain, tuple[str, ...]]:
    runs = {slot.key: slot.component for slot in running.chain or ()}
    lost: list[str] = []
    slots: list[Slot] = []
    for slot in then:
        now = runs.get(slot.key)
        if keeping.here and now is not None and _same(now, slot.component):
            slots.append(replace(slot, component=now))
            continue
        component, gone = _again(slot.component, keeping)
        slots.append(replace(slot, component=component, row=None))
        lost += [f"{slot.name}: the contents of its map {name}" for name in gone]
        if then.counters and now is None and slot.component.object is not None:
            lost.append(f"{slot.name}: its counts")
    return replace(then, slots=tuple(slots)), tuple(lost)


def _same(now: Component, then: Component) -> bool:
    hashes = [component.object.sha256 if component.object else None for component in (now, then)]
    return (now.id, now.name, now.globals, hashes[0]) == (then.id, then.name, then.globals, hashes[1])


def _again(component: Component, keeping: _Keeping) -> tuple[Component, list[str]]:
    """A component that does not run, to be loaded, and the names of its maps that are gone."""
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
    """Maps that the object fills by itself: constants, and programs to tail-call."""
    with contextlib.suppress(XdpChainError):
        maps = ObjectFile.parse(data).maps
        filled = {bpf_map.name for bpf_map in maps if bpf_map.type == bpf.MapType.PROG_ARRAY}
        return frozenset(
            filled | {bpf_map.section for bpf_map in maps if bpf_map.section.startswith(".rodata")}
        )
    return frozenset()
