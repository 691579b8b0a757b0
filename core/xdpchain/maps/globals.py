# SPDX-License-Identifier: Apache-2.0
"""Global variables of an object file, and setting them before it is loaded. Pure.

Values that were set stay with the component (`Component.globals`): constants are compiled into the code, so a
component that is reloaded, under another linkage or after an undo, gets them again. What a running program
has written to ``.data`` and ``.bss`` is in its maps, as usual.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from xdpchain.errors import InvalidInput, NotFound
from xdpchain.frozen import frozen
from xdpchain.model.component import Component, GlobalValue
from xdpchain.objects.elf import Elf
from xdpchain.objects.objfile import ObjectFile

from .layout import Layout, layout_of
from .text import assignment, parse, render
from .values import decode, encode

__all__ = ["GlobalVariable", "globals_of", "patched", "variable_named", "with_globals"]


@frozen
class GlobalVariable:
    """A variable in the object file: its ``offset`` in ``section``, and its initial bytes."""

    name: str
    section: str
    offset: int
    layout: Layout
    initial: bytes

    @property
    def text(self) -> str:
        """The initial value on one line."""
        return render(self.layout, decode(self.layout, self.initial))

    @property
    def constant(self) -> bool:
        return self.section.startswith(".rodata")

    def value(self, text: str) -> GlobalValue:
        """Parse a value; members that ``text`` leaves out keep the object's values. Raises InvalidInput."""
        try:
            data = encode(self.layout, parse(self.layout, text), self.initial)
        except InvalidInput as error:
            why = f"{error.what}: {error.why}"
            raise InvalidInput(f"invalid value for {self.name}", why, error.todo) from None
        words = render(self.layout, decode(self.layout, data))
        return GlobalValue(self.name, self.section, self.offset, data, words)


def globals_of(source: ObjectFile, program: str | None = None) -> tuple[GlobalVariable, ...]:
    """The variables of an object by section and offset; with ``program``, only those in sections that it
    refers to.
    """
    used = None if program is None else set(source.program(program).maps)
    elf = Elf.parse(source.data) if source.variables else None
    variables = []
    for variable in source.variables:
        if used is not None and variable.section not in used:
            continue
        section = elf.section(variable.section) if elf else None
        data = bytes(section.data) if section is not None else b""
        initial = data[variable.offset : variable.offset + variable.size].ljust(variable.size, b"\0")
        layout = layout_of(source.btf, variable.type_id, variable.size)
        variables.append(GlobalVariable(variable.name, variable.section, variable.offset, layout, initial))
    return tuple(variables)


def with_globals(
    component: Component, source: ObjectFile, given: Iterable[str], *, shared: bool = False
) -> Component:
    """The component with ``NAME=VALUE`` applied to its variables; members that a value leaves out keep the
    object's values. ``shared``: it is loaded with others of its object, so any variable of the object may be
    set: the first one loaded creates the sections for all.

    Raises NotFound (no such variable), InvalidInput (a value that does not fit, a variable set twice).
    """
    given = tuple(given)
    if not given:
        return component
    variables = {
        variable.name: variable for variable in globals_of(source, None if shared else component.name)
    }
    values: dict[str, GlobalValue] = {variable.name: variable for variable in component.globals}
    seen = set()
    for text in given:
        name, value = variable_named(text)
        variable = variables.get(name)
        if variable is None:
            raise NotFound(
                f"{component.name} has no global variable {name!r}",
                f"it has {', '.join(variables)}" if variables else "it uses none",
            )
        if name in seen:
            raise InvalidInput(f"{name} is set twice")
        seen.add(name)
        values[name] = variable.value(value)
    return replace(component, globals=tuple(values.values()))


def variable_named(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` as (name, value). Raises InvalidInput."""
    try:
        return assignment(text)
    except InvalidInput:
        raise InvalidInput(f"{text!r} does not set a variable", todo="Write NAME=VALUE") from None


def patched(section: str, initial: bytes, values: Iterable[GlobalValue]) -> bytes:
    """A section's bytes with these values applied. Raises InvalidInput if one lies outside of it."""
    data = bytearray(initial)
    for value in values:
        if value.section == section:
            if value.offset + len(value.data) > len(data):
                raise InvalidInput(f"{value.name} lies outside {section}", f"it has {len(data)} bytes")
            data[value.offset : value.offset + len(value.data)] = value.data
    return bytes(data)
