# SPDX-License-Identifier: Apache-2.0
"""Components from the object files given, and which program of each was taken."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from xdpchain.errors import InvalidInput, NotFound
from xdpchain.maps.globals import globals_of, variable_named, with_globals
from xdpchain.model.actions import ActionSet
from xdpchain.model.component import Component
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of, programs_of, with_map_entries
from xdpchain.objects.objfile import ObjectFile
from xdptui.words.printable import printable

__all__ = ["new_version", "slots_of"]

Notes = tuple[str, ...]


def slots_of(
    paths: Sequence[str],
    names: Sequence[str] | None,
    section: str | None,
    pin_root: str | None,
    priority: int | None,
    actions: ActionSet | None,
    globals: Sequence[str] = (),
    map_entries: Mapping[str, int] = {},
) -> tuple[tuple[Slot, ...], Notes]:
    """New slots for each program of each object. Names, section, priority and actions apply to all; values of
    global variables and numbers of map entries apply to those that have the variable or map. Raises NotFound
    if none has.

    Programs of one object share their maps. The remarks say which program was taken if an object has several.
    """
    read: list[tuple[Component, ObjectFile]] = []
    notes: list[str] = []
    for path in paths:
        source = programs_of(path)
        instance = secrets.token_hex(4)
        for name in names or (None,):
            component = component_of(source, name=name, section=section, instance=instance, pin_root=pin_root)
            read.append((component, source))
            if name is None:
                notes += _taken(source, component)
    components = _with_globals(read, globals, shared=len(names or ()) > 1)
    components = _with_map_entries(components, [source for _, source in read], map_entries)
    return tuple(Slot.of(component, priority, actions) for component in components), tuple(notes)


def _with_globals(
    read: Sequence[tuple[Component, ObjectFile]], given: Sequence[str], *, shared: bool
) -> list[Component]:
    if len(read) < 2:
        return [with_globals(component, source, given) for component, source in read]
    has = [
        {variable.name for variable in globals_of(source, None if shared else c.name)} for c, source in read
    ]
    for text in given:
        name, _ = variable_named(text)
        if not any(name in names for names in has):
            programs = ", ".join(component.name for component, _ in read)
            known = ", ".join(sorted(set().union(*has)))
            raise NotFound(
                f"none of {programs} has a global variable {name!r}",
                f"they have {known}" if known else "they use none",
            )
    return [
        with_globals(
            component, source, [text for text in given if variable_named(text)[0] in names], shared=shared
        )
        for (component, source), names in zip(read, has, strict=True)
    ]


def _with_map_entries(
    components: Sequence[Component], sources: Sequence[ObjectFile], entries: Mapping[str, int]
) -> list[Component]:
    """``name`` may be a map of any of the objects; if it is in none, the first one's error lists its maps."""
    has = [{bpf_map.name for bpf_map in source.maps} for source in sources]
    for name in entries:
        if not any(name in names for names in has):
            sources[0].map(name)  # raises NotFound
    return [
        with_map_entries(component, source, ((n, entries[n]) for n in entries.keys() & names))
        for component, source, names in zip(components, sources, has, strict=True)
    ]


def _taken(source: ObjectFile, component: Component) -> list[str]:
    programs = source.xdp_programs()
    if len(programs) < 2:
        return []
    others = ", ".join(program.name for program in programs if program.name != component.name)
    shown = printable(source.path or "the object")
    taken = f"{component.name} was used, not {others} (-n chooses)"
    return [f"{shown} has {len(programs)} XDP programs: {taken}"]


def new_version(
    path: str,
    name: str | None,
    section: str | None,
    pin_root: str | None,
    globals: Sequence[str] = (),
    map_entries: Mapping[str, int] = {},
) -> Callable[[str], tuple[Component, Notes]]:
    """Reads the object. The returned function takes the name of a slot's component and gives the program to
    put there: the one requested, or else the one of the same name, or else the only one.
    """
    source = programs_of(path)

    def chosen(old: str) -> tuple[Component, Notes]:
        if name is not None or section is not None:
            return component_of(source, name=name, section=section, pin_root=pin_root), ()
        found = source.xdp_programs()
        if any(program_spec.name == old for program_spec in found):
            return component_of(source, name=old, pin_root=pin_root), ()
        if len(found) > 1:
            listed = ", ".join(program_spec.name for program_spec in found)
            raise InvalidInput(
                f"{path} has no program {old!r}", f"it has {listed}", "Choose one of them with -n NAME"
            )
        component = component_of(source, pin_root=pin_root)
        return component, (f"{component.name} takes the place of {old}",)

    def program(old: str) -> tuple[Component, Notes]:
        component, notes = chosen(old)
        component = with_map_entries(component, source, map_entries.items())
        return with_globals(component, source, globals), notes

    return program
