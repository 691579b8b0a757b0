# SPDX-License-Identifier: Apache-2.0
"""Adopt a program that was attached without a dispatcher: make it the first slot of a chain.

The kernel's tag proves that an object file is the program's: the object is loaded, and both tags must be
equal. The tag is a hash over all instructions without map descriptors (SHA-1, on newer kernels SHA-256, of
either the first 8 bytes), so it is compared, never computed here. What the tag does not cover is taken from
the running program: the maps, matched by name and shape, and with them the constants (``.rodata``), which a
loader may have set before the load.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, KernelRefused, LinkRefused, NotFound, NotOurs, Unsupported
from xdpchain.frozen import frozen
from xdpchain.linkage.compile import explain, map_key, shape
from xdpchain.linkage.linkable_slots import kept_maps
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.commands import Commands
from xdpchain.model.component import Component, MapRef
from xdpchain.model.interface import Mode
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of
from xdpchain.objects.objfile import ObjectFile
from xdpchain.observe.gather_evidence import evidence_of
from xdpchain.observe.owner_evidence import judge
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import LoadFailed, Object

__all__ = ["Adoption", "adoption_of", "check_adoptable"]

NAME_CUT = 15
"""Characters of a map's name that the kernel keeps."""


@frozen
class Adoption:
    """A program that can be adopted: its ID and tag, the ``component`` that it becomes (with its running
    maps), and ``notes`` for the operator.
    """

    program: int
    tag: str
    component: Component
    notes: tuple[str, ...] = ()

    def candidate(self, slot: Slot, mode: Mode, linkage: Linkage) -> Chain:
        """A chain with this one slot."""
        return Chain((replace(slot, component=self.component),), linkage, mode)


def check_adoptable(running: Running) -> None:
    """Raise if the program can't be adopted whatever its object file: NotFound (no program), InvalidInput (a
    chain), Unsupported (offloaded), NotOurs (held by a link: by whom, and what to do).
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
    """Prove that the program on the hook comes from ``source`` (the named program, or any).

    Raises what `check_adoptable` raises, InvalidInput if it is a different program or has different maps,
    KernelRefused and LinkRefused. Changes nothing: the object's program is loaded and freed again.
    """
    check_adoptable(running)
    hook = running.hook
    assert hook is not None
    runs = _look_into(hook.prog_id)
    names: Iterable[str | None] = (name,)
    if name is None and section is None:
        names = [program.name for program in source.xdp_programs()] or (None,)
    mismatches: list[str] = []
    refused: KernelRefused | LinkRefused | None = None
    for program_name in names:
        component = component_of(source, name=program_name, section=section, pin_root=pin_root)
        try:
            loaded = _Loaded.of(component, source, runs)
        except (KernelRefused, LinkRefused) as error:
            refused = error
            continue
        if loaded.tag == hook.tag:
            return _adoption(hook.prog_id, loaded, runs, _holders(running))
        mismatches.append(f"{component.name} has tag {loaded.tag}")
    if refused is not None and not mismatches:
        raise refused
    path = source.path or "the object"
    raise InvalidInput(
        f"{path} is not the program that runs on {running.interface}",
        f"program {hook.prog_id} ({hook.name}) has tag {hook.tag}; {', '.join(mismatches)}",
        "Give the object file it was loaded from: the same build, for the same kernel",
    )


@frozen
class _Runs:
    """The running program's maps and those of programs that it tail-calls, by ID; and the latter's tags."""

    maps: Mapping[int, bpf.MapInfo]
    called: frozenset[str]

    def find(self, name: str) -> tuple[int, ...]:
        return tuple(map_id for map_id, info in self.maps.items() if _same_name(name, info.name))


def _look_into(program: int) -> _Runs:
    maps: dict[int, bpf.MapInfo] = {}
    called: set[str] = set()
    pending, seen = [program], {program}
    while pending:
        prog_id = pending.pop()
        try:
            with bpf.prog_by_id(prog_id) as fd:
                if prog_id != program:
                    called.add(bpf.prog_info(fd).tag)
                for map_id in bpf.prog_map_ids(fd):
                    if map_id not in maps:
                        with bpf.map_by_id(map_id) as map_fd:
                            maps[map_id] = bpf.map_info(map_fd)
                            pending += [
                                other_id
                                for other_id in _programs_in(map_fd, maps[map_id])
                                if other_id not in seen
                            ]
                seen.update(pending)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"program {prog_id} can't be examined") from error
    return _Runs(maps, frozenset(called))


def _programs_in(fd: bpf.Fd, info: bpf.MapInfo) -> list[int]:
    """The program IDs in a program array."""
    if info.type != bpf.MapType.PROG_ARRAY:
        return []
    prog_ids = []
    for key in bpf.map_keys(fd, info.key_size):
        with contextlib.suppress(bpf.BpfError):  # an empty entry
            prog_ids.append(int.from_bytes(bpf.map_lookup(fd, key, 4), "little"))
    return prog_ids


def _same_name(name: str, kernels: str) -> bool:
    """Compare a map's name in an object with the kernel's, which is truncated; libbpf prefixes the name of a
    data section with part of the object's name.
    """
    if not name.startswith("."):
        return kernels == name[:NAME_CUT]
    section = kernels[kernels.index(".") :] if "." in kernels else ""
    return section == name or (len(kernels) == NAME_CUT and len(section) > 1 and name.startswith(section))


@frozen
class _Loaded:
    """An object's program as the kernel loaded it: its component with the running maps, tags, names of
    missing maps, a description of a different shape, and the names of changed constants.
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
            map_ids = runs.find(name)
            if len(map_ids) == 1:
                refs.append(MapRef(name, map_ids[0]))
            else:
                missing.append(name if not map_ids else f"{name} (several have that name)")
        component = replace(component, maps=tuple(refs))
        with contextlib.ExitStack() as held:
            maps = {ref.name: held.enter_context(bpf.map_by_id(ref.id)) for ref in refs}
            try:
                tag, called, constants = _load(component, source.data, kept_maps(component, maps))
                return cls(component, tag, called, tuple(missing), "", constants)
            except LinkRefused as error:
                # A map has a different shape: is it a different program altogether?
                tag, called, _ = _load(component, source.data, {})
                return cls(component, tag, called, tuple(missing), error.why or error.what)


def _load(
    component: Component, data: bytes, reuse: Mapping[str, bpf.Fd]
) -> tuple[str, frozenset[str], tuple[str, ...]]:
    """The kernel's tag of a component, those of the programs that it tail-calls, and the constants whose
    running values differ from the object's.
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


def _adoption(program: int, loaded: _Loaded, runs: _Runs, holders: str) -> Adoption:
    name = loaded.component.name
    if loaded.missing or loaded.differs:
        has = ", ".join(sorted(info.name or "an unnamed map" for info in runs.maps.values())) or "none"
        why = f"maps not found: {', '.join(loaded.missing)}; the running program has {has}"
        raise InvalidInput(
            f"{name} is the running program, but its maps can't be kept",
            loaded.differs or why,
            "Without them it would lose its state. If that is acceptable, unload it and load it again",
        )
    if not runs.called <= loaded.called:
        raise InvalidInput(
            f"{name} is the running program, but it tail-calls programs that are not in its object",
            f"its array holds programs with the tags {', '.join(sorted(runs.called - loaded.called))}",
            "Give the object file that contains those programs too",
        )
    notes = []
    if loaded.constants:
        which = ", ".join(loaded.constants)
        notes.append(
            f"its constants ({which}) differ from the object's: its loader set them, and they are kept"
        )
    if holders:
        notes.append(f"{holders}: it might attach its program again, or detach the chain")
    kept = ", ".join(f"{ref.name} (id {ref.id})" for ref in loaded.component.maps)
    notes.append(f"the kernel's tag confirms that it is program {program}: {loaded.tag}")
    notes.append(f"its maps are kept: {kept}" if kept else "it has no maps")
    return Adoption(program, loaded.tag, loaded.component, tuple(notes))


def _holders(running: Running) -> str:
    evidence = evidence_of([running]).get(running.interface.ifindex)
    if evidence is None or not evidence.held:
        return ""
    held = {owner.pid: owner for owner in evidence.held}.values()
    return ", ".join(f"{owner.command} (pid {owner.pid})" for owner in held) + " has the program open"
