# SPDX-License-Identifier: Apache-2.0
"""Create components from object files, ready for a candidate; nothing is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, LinkRefused
from xdpchain.model.chain import Chain
from xdpchain.model.component import MOST_ENTRIES, Component, MapRef, ObjectRef

from .kernel_calls import metadata_calls
from .object_path import find_object
from .objfile import ObjectFile, ProgramSpec

__all__ = [
    "component_of", "keep_maps", "load_component", "programs_of", "with_map_entries", "with_shared_maps"
]  # fmt: skip


def programs_of(path: str) -> ObjectFile:
    """Read an object file, by path or by name (`find_object`). Raises NotFound, InvalidInput."""
    return ObjectFile.open(find_object(path))


def load_component(
    path: str,
    *,
    name: str | None = None,
    section: str | None = None,
    instance: str | None = None,
    pin_root: str | None = None,
) -> Component:
    """An XDP program of an object file: by function name, by section, or the first one that no other program
    tail-calls.

    Components with the same ``instance`` share their maps. Raises NotFound (no such file or program),
    InvalidInput.
    """
    return component_of(programs_of(path), name=name, section=section, instance=instance, pin_root=pin_root)


def component_of(
    source: ObjectFile,
    *,
    name: str | None = None,
    section: str | None = None,
    instance: str | None = None,
    pin_root: str | None = None,
) -> Component:
    """As `load_component`, from an object file that was already read."""
    where = source.path or "the object"
    if name is not None or section is not None:
        program = source.program(name or section or "")
    else:
        found = source.xdp_programs()
        if not found:
            raise InvalidInput(f"{where} has no XDP program", f"it has {_listed(source.programs)}")
        reached = {callee for program_spec in found for callee in program_spec.callees}
        program = next((program_spec for program_spec in found if program_spec.name not in reached), found[0])
    if program.attach not in ("xdp", ""):
        raise LinkRefused(
            f"{program.name} can't be a component",
            f"it is for a {program.attach} entry, not for an interface (section {program.section})",
        )
    reachable = [program, *(source.program(callee) for callee in program.callees)]
    return Component(
        name=program.name,
        section=program.section,
        object=ObjectRef(
            source.sha256,
            len(source.data),
            os.path.abspath(source.path) if source.path else None,
            data=source.data,
        ),
        declared=program.run_config,
        frags=program.frags,
        licence=source.licence,
        callees=program.callees,
        uses=tuple(sorted({name for program_spec in reachable for name in program_spec.maps})),
        pin_root=pin_root,
        instance=instance or os.urandom(4).hex(),
        instructions=program.insn_count,
        bound=bool(metadata_calls(source.data, program.name)),
    )


def _listed(programs: tuple[ProgramSpec, ...]) -> str:
    return ", ".join(f"{p.name} (section {p.section})" for p in programs) or "no programs at all"


def with_map_entries(
    component: Component, source: ObjectFile, entries: Iterable[tuple[str, int]]
) -> Component:
    """The component with a different max_entries for maps of its object. Raises NotFound (no such map),
    InvalidInput (a number out of range).
    """
    given = dict(entries)
    for name, count in given.items():
        source.map(name)
        if not 1 <= count <= MOST_ENTRIES:
            raise InvalidInput(f"map {name} can't have {count} entries", f"the range is 1 to {MOST_ENTRIES}")
    return replace(component, map_entries=tuple(sorted(given.items())))


def keep_maps(new: Component, running: Component) -> Component:
    """The new version of a component, which keeps the running one's maps.

    Constants belong to the code compiled with them, so only the same object keeps them, unless one is set to
    another value. Raises InvalidInput if other variables are set: those values would be lost, since their
    section is kept with its contents.
    """
    given = {variable.section for variable in new.globals}
    lost = [ref.name for ref in running.maps if ref.name in given and not _constant(ref)]
    if lost:
        names = ", ".join(variable.name for variable in new.globals if variable.section in lost)
        raise InvalidInput(
            f"{names} of {new.name} can't be given a value",
            f"the running component passes on its {', '.join(lost)}",
            advise(Do.SET_IN_MAP) | advise(Do.START_WITH_FRESH_MAPS),
        )
    shares = new.shares or tuple(share for share in running.shares if share.name in new.uses)
    return replace(new, maps=_handed_on(new, running), shares=shares)


def _handed_on(new: Component, running: Component) -> tuple[MapRef, ...]:
    given = {variable.section for variable in new.globals}
    if new.object is None or running.object is None or new.object.sha256 != running.object.sha256:
        return tuple(bpf_map for bpf_map in running.maps if not _constant(bpf_map))
    return tuple(bpf_map for bpf_map in running.maps if not _constant(bpf_map) or bpf_map.name not in given)


def with_shared_maps(chain: Chain, others: Sequence[Chain], *, every: bool) -> Chain:
    """``chain`` with slots that are not loaded yet sharing maps with the first of the others that runs the
    same program of the same object: ``every`` such slot, or only those that already keep one of its maps.
    """
    if not others:
        return chain
    slots = []
    for slot in chain.slots:
        new = slot.component
        there = (
            slot_there.component
            for other in others
            for slot_there in other
            if _same_program(slot_there.component, new)
        )
        if slot.id is None and (running := next(there, None)) is not None:
            known = {ref.name for ref in new.maps}
            if every or not {ref.id for ref in new.maps}.isdisjoint(ref.id for ref in running.maps):
                more = tuple(ref for ref in _handed_on(new, running) if ref.name not in known)
                slot = replace(slot, component=replace(new, maps=new.maps + more))
        slots.append(slot)
    return replace(chain, slots=tuple(slots))


def _same_program(component: Component, other: Component) -> bool:
    if component.object is None or other.object is None:
        return False
    return (component.object.sha256, component.name) == (other.object.sha256, other.name)


def _constant(reference: MapRef) -> bool:
    return reference.name.startswith((".rodata", ".kconfig"))
