# SPDX-License-Identifier: Apache-2.0
"""Adopt a program that somebody attached without a dispatcher: what it takes to go on as a chain's first
slot.

That an object file is the program's is proved by the kernel's own tag: the object is loaded, and the kernel
must give the same tag to both. It is a hash over all instructions, descriptors of maps left out (SHA-1, and
SHA-256 on newer kernels; of either the first 8 bytes), so it is compared, never computed here. What the tag
does not cover is taken from what runs: the maps, matched by name and shape, and with them the constants
(``.rodata``), which a loader may have set before the load.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, KernelRefused, LinkRefused, NotFound, NotOurs, Unsupported
from xdpchain.linkage.compile import explain, map_key, shape
from xdpchain.linkage.linkable_slots import kept_maps
from xdpchain.model.chain import Chain, Component, Linkage, MapRef, Mode, Slot
from xdpchain.model.commands import Commands
from xdpchain.model.running import Owner, Running
from xdpchain.objects.components import component_of
from xdpchain.objects.objfile import ObjectFile
from xdpchain.observe.gather_evidence import evidence_of
from xdpchain.observe.owner_evidence import judge
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import LoadFailed, Object

__all__ = ["Adoption", "adoption_of", "check_adoptable"]

NAME_CUT = 15
"""The kernel keeps so many characters of a map's name."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """A program that can be adopted: its prog id and tag, what it is as a ``component`` (with the maps that
    run), and ``notes`` for the operator.
    """

    program: int
    tag: str
    component: Component
    notes: tuple[str, ...] = ()

    def candidate(self, slot: Slot, mode: Mode, linkage: Linkage) -> Chain:
        """A chain of this one slot."""
        return Chain((replace(slot, component=self.component),), linkage, mode)


def check_adoptable(running: Running) -> None:
    """Raise what speaks against it before any object file is read: NotFound (nothing runs), InvalidInput (a
    chain does), Unsupported (offloaded), NotOurs (a link holds it: who, and what to do).
    """
    where, hook = running.interface, running.hook
    if hook is None:
        raise NotFound(f"no XDP program runs on {where}", todo=advise(Do.LOAD, on=where))
    if not hook.tag:
        require_capabilities()  # what can't be read looks like somebody else's
    if running.owner is not Owner.FOREIGN:
        raise InvalidInput(
            f"{where} does not run a single program that could be adopted",
            running.note or f"it already runs a chain ({running.owner}'s)",
            advise(Do.ADD, on=where),
        )
    if len(running.hooks) > 1 or hook.mode is Mode.OFFLOAD:
        raise Unsupported(
            f"program {hook.prog_id} on {where} can't be adopted",
            "a program that runs on the card can't become a chain",
            "Detach the offloaded program first",
        )
    if hook.link_id is not None:
        evidence = evidence_of([running]).get(where.ifindex)
        assert evidence is not None
        verdict = judge(evidence, Commands(where.netns))
        raise NotOurs(
            f"program {hook.prog_id} on {where} can't be adopted as it is",
            f"bpf_link {hook.link_id} holds the hook, so no other program can take its place"
            + (f"; it is {verdict.who}" if verdict.who else "; no process was found that has it open"),
            verdict.fix,
        )


def adoption_of(
    running: Running,
    source: ObjectFile,
    *,
    name: str | None = None,
    section: str | None = None,
    pin_root: str | None = None,
) -> Adoption:
    """Prove that the program on the hook is one of ``source`` (the one named, or whichever it is).

    Raises what `check_adoptable` does, InvalidInput where it is another program or has other maps, and what
    the kernel refuses. Changes nothing; the object's program is loaded, and let go.
    """
    check_adoptable(running)
    hook = running.hook
    assert hook is not None
    runs = _look_into(hook.prog_id)
    names: Iterable[str | None] = (name,)
    if name is None and section is None:
        names = [program.name for program in source.xdp_programs()] or (None,)
    other: list[str] = []
    refused: KernelRefused | LinkRefused | None = None
    for one in names:
        component = component_of(source, name=one, section=section, pin_root=pin_root)
        try:
            found = _Loaded.of(component, source, runs)
        except (KernelRefused, LinkRefused) as error:
            refused = error
            continue
        if found.tag == hook.tag:
            return _adoption(hook.prog_id, found, runs, _holders(running))
        other.append(f"{component.name} has tag {found.tag}")
    if refused is not None and not other:
        raise refused
    path = source.path or "the object"
    raise InvalidInput(
        f"{path} is not what runs on {running.interface}",
        f"program {hook.prog_id} ({hook.name}) has tag {hook.tag}; {', '.join(other)}",
        "Give the object file it was loaded from: the same build, for the same kernel",
    )


@dataclass(frozen=True, slots=True)
class _Runs:
    """What runs: the maps of a program, and of those that it tail-calls, by id; and the latter's tags."""

    maps: Mapping[int, bpf.MapInfo]
    called: frozenset[str]

    def find(self, name: str) -> tuple[int, ...]:
        return tuple(map_id for map_id, info in self.maps.items() if _same_name(name, info.name))


def _look_into(program: int) -> _Runs:
    maps: dict[int, bpf.MapInfo] = {}
    called: set[str] = set()
    pending, seen = [program], {program}
    while pending:
        number = pending.pop()
        try:
            with bpf.prog_by_id(number) as fd:
                if number != program:
                    called.add(bpf.prog_info(fd).tag)
                for map_id in bpf.prog_map_ids(fd):
                    if map_id not in maps:
                        with bpf.map_by_id(map_id) as one:
                            maps[map_id] = bpf.map_info(one)
                            pending += [n for n in _programs_in(one, maps[map_id]) if n not in seen]
                seen.update(pending)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"program {number} can't be examined") from error
    return _Runs(maps, frozenset(called))


def _programs_in(fd: bpf.Fd, info: bpf.MapInfo) -> list[int]:
    """The prog ids in a program array."""
    if info.type != bpf.MapType.PROG_ARRAY:
        return []
    found = []
    for key in bpf.map_keys(fd, info.key_size):
        with contextlib.suppress(bpf.BpfError):  # an empty row
            found.append(int.from_bytes(bpf.map_lookup(fd, key, 4), "little"))
    return found


def _same_name(name: str, kernels: str) -> bool:
    """A map's name in an object against the kernel's, which is cut; libbpf puts a part of the object's name
    before that of a data section.
    """
    if not name.startswith("."):
        return kernels == name[:NAME_CUT]
    section = kernels[kernels.index(".") :] if "." in kernels else ""
    return section == name or (len(kernels) == NAME_CUT and len(section) > 1 and name.startswith(section))


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An object's program as the kernel took it: its component with the maps that run, tags, the names of
    maps that it lacks, the shape that differs in words, and constants that are others.
    """

    component: Component
    tag: str
    called: frozenset[str]
    missing: tuple[str, ...] = ()
    differs: str = ""
    constants: tuple[str, ...] = ()

    @classmethod
    def of(cls, component: Component, source: ObjectFile, runs: _Runs) -> _Loaded:
        refs, missing = [], []
        for name in component.uses:
            found = runs.find(name)
            if len(found) == 1:
                refs.append(MapRef(name, found[0]))
            else:
                missing.append(name if not found else f"{name} (several have that name)")
        component = replace(component, maps=tuple(refs))
        with contextlib.ExitStack() as held:
            maps = {ref.name: held.enter_context(bpf.map_by_id(ref.id)) for ref in refs}
            try:
                tag, called, constants = _load(component, source.data, kept_maps(component, maps))
                return cls(component, tag, called, tuple(missing), "", constants)
            except LinkRefused as error:
                # A map of another shape: is it another program altogether?
                tag, called, _ = _load(component, source.data, {})
                return cls(component, tag, called, tuple(missing), error.why or error.what)


def _load(
    component: Component, data: bytes, reuse: Mapping[str, bpf.Fd]
) -> tuple[str, frozenset[str], tuple[str, ...]]:
    """The kernel's tag of a component, those of what it tail-calls, and the constants that run with other
    content than the object's.
    """
    label = component.object.path if component.object and component.object.path else component.name
    if component.bound:
        raise InvalidInput(
            f"{component.name} can't be adopted",
            "it reads RX metadata, so it is bound to its device and can't be compared with what runs",
            "Unload it, and load it anew",
        )
    with Object(data, component.name) as opened:
        shape(opened, component, reuse, component.frags, isolated=True)
        constants = tuple(
            map_key(bpf_map)
            for bpf_map in opened.maps()
            if bpf_map.internal and map_key(bpf_map).startswith(".rodata") and map_key(bpf_map) in reuse
            if not _holds(reuse[map_key(bpf_map)], bpf_map.initial_value())
        )
        try:
            opened.load()
        except LoadFailed as error:
            raise explain(error, component, data, reuse, component.frags, label) from error
        tags = {
            program.name: bpf.prog_info(program.fd).tag for program in opened.programs() if program.fd >= 0
        }
    return tags.pop(component.name), frozenset(tags.values()), constants


def _holds(fd: bpf.Fd, content: bytes) -> bool:
    size = bpf.map_info(fd).value_size
    return bpf.map_lookup(fd, bytes(4), size)[: len(content)] == content


def _adoption(program: int, found: _Loaded, runs: _Runs, holders: str) -> Adoption:
    name = found.component.name
    if found.missing or found.differs:
        has = ", ".join(sorted(info.name or "an unnamed map" for info in runs.maps.values())) or "none"
        why = f"of its maps {', '.join(found.missing)} can't be found; what runs has {has}"
        raise InvalidInput(
            f"{name} is the running program, but its maps can't be kept",
            found.differs or why,
            "Without them it would lose its state. If that is acceptable, unload it and load it again",
        )
    if not runs.called <= found.called:
        raise InvalidInput(
            f"{name} is the running program, but it tail-calls programs that are not in its object",
            f"its array holds programs with the tags {', '.join(sorted(runs.called - found.called))}",
            "Give the object file that contains those programs too",
        )
    notes = []
    if found.constants:
        which = ", ".join(found.constants)
        notes.append(
            f"its constants ({which}) differ from the object's: its loader set them, and they are kept"
        )
    if holders:
        notes.append(f"{holders}: it might attach its program again, or detach the chain")
    kept = ", ".join(f"{ref.name} (id {ref.id})" for ref in found.component.maps)
    notes.append(f"the kernel's tag confirms that it is program {program}: {found.tag}")
    notes.append(f"its maps are kept: {kept}" if kept else "it has no maps")
    return Adoption(program, found.tag, found.component, tuple(notes))


def _holders(running: Running) -> str:
    evidence = evidence_of([running]).get(running.interface.ifindex)
    if evidence is None or not evidence.held:
        return ""
    held = {one.pid: one for one in evidence.held}.values()
    return ", ".join(f"{one.command} (pid {one.pid})" for one in held) + " has the program open"
