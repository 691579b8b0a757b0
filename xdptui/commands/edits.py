# SPDX-License-Identifier: Apache-2.0
"""What each changing command does to the running chain: arguments in, an edit out.

Object files are read when the edit is made. The edit itself is pure and can be repeated if the chain changes
in the meantime.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from xdpchain.change.journal.undoing import Undo, undo_of
from xdpchain.change.plan import Plan, make_plan
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.frozen import frozen
from xdpchain.linkage.choice import choose
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Mode, WantedMode
from xdpchain.model.labels import checked_labels, parse_labels
from xdpchain.model.routes import parse_routes
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, programs_of
from xdptui.commands import options as values
from xdptui.commands.sources import new_version, slots_of
from xdptui.outcome import UsageError
from xdptui.words.history_words import undo_notes

if TYPE_CHECKING:
    from xdpchain.change.adoption import Adoption

__all__ = ["EDITS", "Edit"]


@frozen
class Proposal:
    """The result of an edit: the candidate, and remarks. An adoption or an undo carries more; an undo holds
    the maps that it brings back, so keep it until the candidate runs. ``mode`` is as for `make_plan`.
    """

    candidate: Chain
    notes: tuple[str, ...] = ()
    adoption: Adoption | None = None
    undo: Undo | None = None
    mode: WantedMode | None = None
    keep_maps: bool = False

    def plan(self, running: Running) -> Plan:
        """The plan from ``running`` to the candidate. Raises what `make_plan` raises."""
        return make_plan(
            running,
            self.candidate,
            adopts=self.adoption.program if self.adoption else None,
            restores=self.undo.restores if self.undo else None,
            mode=self.mode,
            keep_maps=self.keep_maps,
            lost=self.undo.lost if self.undo else (),
        )


@frozen
class Edit:
    """``make`` turns what runs into a proposal. ``repeatable``: it means the same on another chain (it names
    no slot by number), so it may be retried after a lost race.
    """

    make: Callable[[Running], Proposal]
    repeatable: bool


def _load(given: Namespace) -> Edit:
    priority, actions = values.priority(given.priority), values.actions(given.actions)
    routes = parse_routes(given.route) if given.route is not None else {}
    mode, remark = values.mode(given.mode)
    at = None if given.at is None else values.place(given.at)
    slots, notes = slots_of(
        given.objects,
        given.names,
        given.section,
        given.pin_path,
        priority,
        actions,
        given.globals or (),
        values.map_entries(given.map_entries),
    )
    policy, labels = values.policy(given.may, given.otherwise), checked_labels(parse_labels(given.labels))
    slots = tuple(
        replace(slot, shadow=given.shadow, off=given.off, policy=policy, labels=labels) for slot in slots
    )
    uses = [values.UseMap.parse(text) for text in given.use_map or ()]
    if remark:
        notes = (*notes, remark)

    def make(running: Running) -> Proposal:
        bound = given.dispatcher_version is None and any(slot.component.bound for slot in slots)
        linkage, why = choose(given.linkage, running, bound=bound, slots=len(slots))
        chain = (running.chain or Chain()).relink(linkage)
        if mode is not None and mode is not WantedMode.BEST:
            chain = replace(chain, mode=Mode(mode.value))
        best = mode if mode is WantedMode.BEST and running.chain is None else None
        said = [*notes, f"{linkage} linkage: {why}"]
        chain = _version(chain, given)
        if given.counters is not None:
            chain = replace(chain, counters=given.counters)
        before = chain
        for i, slot in enumerate(slots):
            chain = chain.add(slot, None if at is None else at + i)
        owners = [_owner(use.slot, before, chain, running.interface) for use in uses]
        chain = values.shared(chain, [slot.key for slot in slots], list(zip(owners, uses, strict=True)))
        for slot in slots:
            chain = values.routed(chain, chain.position(slot.key), routes, running.interface)
        return Proposal(chain, tuple(said), mode=best)

    numbered = _numbered(routes) or any(use.slot.isdecimal() for use in uses)
    return Edit(make, repeatable=at is None and not numbered)


def _owner(text: str, before: Chain, after: Chain, where: object) -> str:
    """The key of the slot whose map is used: a running slot by number or name, or a new one by name."""
    chain = before if text.isdecimal() or any(slot.name == text for slot in before) else after
    return chain.slots[values.slot(chain, text, where)].key


def _numbered(routes: Mapping[Action | None, str]) -> bool:
    return any(word.isdecimal() for word in routes.values())


def _version(chain: Chain, given: Namespace) -> Chain:
    """The chain with the requested dispatcher version, if its linkage has any."""
    asked = given.dispatcher_version
    if asked is None or not chain.linkage.facts.libxdp:
        return chain
    return replace(chain, dispatcher_version=int(asked))


def _unload(given: Namespace) -> Edit:
    ways = [bool(given.slots), bool(given.ids), given.all, bool(given.where)]
    if sum(ways) != 1:
        why = "say what to unload" if not any(ways) else "slots, --id, --where and --all exclude each other"
        raise UsageError(why, todo="`xdptui unload IF SLOT...`, `--id ID`, `--where KEY=VALUE`, or `--all`")
    ids = [values.number(text, "program id") for text in given.ids or ()]

    def make(running: Running) -> Proposal:
        chain = running.chain or Chain()
        if given.all:
            left = replace(chain, slots=())
        else:
            _editable(running)
            slots = [values.slot(running.chain, text, running.interface) for text in given.slots]
            if given.where:
                slots = values.matching(running.chain, given.where, running.interface)
            left = chain.remove(slots or [_with_id(running, number) for number in ids])
        return Proposal(left, keep_maps=given.keep_maps)

    return Edit(make, repeatable=not any(text.isdecimal() for text in given.slots))


def _editable(running: Running) -> None:
    """Let a plan report whose program it is, before looking up slots fails for lack of any."""
    if not running.editable:
        make_plan(running, Chain())  # raises NotOurs


def _with_id(running: Running, prog_id: int) -> int:
    for i, slot in enumerate(running.chain or ()):
        if prog_id in (slot.id, slot.program):
            return i
    where = running.interface
    if running.dispatcher is not None and running.dispatcher.id == prog_id:
        raise InvalidInput(
            f"program {prog_id} is the dispatcher of {where}",
            "it is removed with the last slot",
            "--all removes it",
        )
    known = ", ".join(f"{slot.id} {slot.name}" for slot in running.chain or ())
    raise NotFound(f"{where} runs no program with id {prog_id}", f"it runs {known or 'no chain'}")


def _move(given: Namespace) -> Edit:
    which = values.Which(given.slot, given.where)

    def make(running: Running) -> Proposal:
        _editable(running)
        where = running.interface
        source = which.single(running.chain, where)
        target = values.slot(running.chain, given.to, where)
        assert running.chain is not None
        return Proposal(running.chain.move(source, target))

    return Edit(make, repeatable=False)


def _set(given: Namespace) -> Edit:
    priority, actions = values.priority(given.priority), values.actions(given.actions)
    routes = parse_routes(given.route) if given.route is not None else {}
    policy = values.policy(given.may, given.otherwise)
    mode, remark = values.mode(given.mode)
    labels = parse_labels(given.labels)
    tunes = bool(routes or labels) or any(
        option is not None for option in (priority, actions, given.shadow, given.off, given.may)
    )
    if not tunes and given.counters is None and mode is None:
        raise UsageError(
            "say what to set",
            todo="-P PRIO, -A ACTIONS, --route, --may, --label, --shadow, --off, --on, --counters or --mode",
        )
    which = values.Which(given.slot, given.where) if tunes else None
    if which is None and (given.slot is not None or given.where):
        raise UsageError("counters and mode apply to the whole chain", todo="Leave out the slot")

    def make(running: Running) -> Proposal:
        _editable(running)
        chain = running.chain
        if which is not None:
            where = running.interface
            places = which.among(chain, where)
            assert chain is not None
            for key in [chain.slots[place].key for place in places]:
                chain = chain.retune(chain.position(key), priority, actions, given.shadow, given.off)
                chain = values.routed(chain, chain.position(key), routes, where)
                if given.may is not None:
                    chain = chain.police(chain.position(key), policy)
                if labels:
                    chain = chain.label(chain.position(key), labels)
        if chain is None:
            raise NotFound(f"no chain runs on {running.interface}")
        if given.counters is not None:
            chain = replace(chain, counters=given.counters)
        return Proposal(chain, (remark,) if remark else (), mode=mode)

    return Edit(make, repeatable=not (which and which.numbered) and not _numbered(routes))


def _replace(given: Namespace) -> Edit:
    which = values.Which(given.slot, given.where)
    uses = [values.UseMap.parse(text) for text in given.use_map or ()]
    read = new_version(
        given.object,
        given.name,
        given.section,
        given.pin_path,
        given.globals or (),
        values.map_entries(given.map_entries),
    )

    def make(running: Running) -> Proposal:
        _editable(running)
        index = which.single(running.chain, running.interface)
        assert running.chain is not None
        old = running.chain.slots[index].component
        new, notes = read(old.name)
        same = old.object is not None and new.object is not None and old.object.sha256 == new.object.sha256
        same = same and all(
            getattr(old, part) == getattr(new, part) for part in ("name", "section", "globals", "map_entries")
        )
        if same and not given.fresh_maps and not uses:
            return Proposal(running.chain, (f"slot {index} already runs this version of {old.name}",))
        key, chain = running.chain.slots[index].key, running.chain
        owners = [_owner(use.slot, chain, chain, running.interface) for use in uses]
        if not given.fresh_maps:
            new = keep_maps(new, old)
        chain = values.shared(chain.substitute(index, new), [key], list(zip(owners, uses, strict=True)))
        return Proposal(chain, notes)

    return Edit(make, repeatable=not which.numbered and not any(use.slot.isdecimal() for use in uses))


def _relink(given: Namespace) -> Edit:
    def make(running: Running) -> Proposal:
        _editable(running)
        if running.chain is None:
            raise NotFound(f"no chain runs on {running.interface}", todo="Load one with --linkage")
        linkage, why = choose(given.linkage, running, anew=True, slots=len(running.chain))
        chain = running.chain.relink(linkage)
        chain = _version(chain, given)
        return Proposal(chain, (f"{linkage} linkage: {why}",))

    return Edit(make, repeatable=True)


def _adopt(given: Namespace) -> Edit:
    priority, actions = values.priority(given.priority), values.actions(given.actions)
    source = programs_of(given.object)

    def make(running: Running) -> Proposal:
        from xdpchain.change.adoption import adoption_of, check_adoptable

        check_adoptable(running)
        adoption = adoption_of(
            running, source, name=given.name, section=given.section, pin_root=given.pin_path
        )
        linkage, why = choose(given.linkage, running)
        assert running.mode is not None
        slot = Slot.of(adoption.component, priority, actions)
        slot = replace(slot, labels=checked_labels(parse_labels(given.labels)))
        chain = adoption.candidate(slot, running.mode, linkage)
        chain = _version(chain, given)
        if given.counters is not None:
            chain = replace(chain, counters=given.counters)
        return Proposal(chain, (*adoption.notes, f"{linkage} linkage: {why}"), adoption=adoption)

    return Edit(make, repeatable=False)


def _undo(_: Namespace) -> Edit:
    def make(running: Running) -> Proposal:
        _editable(running)
        found = undo_of(running)
        return Proposal(found.candidate, undo_notes(found), undo=found)

    return Edit(make, repeatable=False)


EDITS: dict[str, Callable[[Namespace], Edit]] = {
    "load": _load,
    "unload": _unload,
    "move": _move,
    "set": _set,
    "replace": _replace,
    "relink": _relink,
    "undo": _undo,
    "adopt": _adopt,
}
