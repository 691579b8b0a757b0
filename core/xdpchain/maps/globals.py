# SPDX-License-Identifier: Apache-2.0
"""Global variables of an object file, and other values for them before it is loaded. Pure.

A value that was given stays with the component (`Component.globals`): constants belong to the code that was
compiled with them, so a component that has to be loaded anew, under another linkage or after an undo, gets
them again. What a running program has written to its ``.data`` and ``.bss`` is in its maps, as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xdpchain.errors import InvalidInput, NotFound
from xdpchain.model.chain import Component, GlobalValue
from xdpchain.objects.elf import Elf
from xdpchain.objects.objfile import ObjectFile

from .layout import Layout, layout_of
from .text import assignment, parse, render
from .values import decode, encode

__all__ = ["GlobalVariable", "globals_of", "patched", "variable_named", "with_globals"]


@dataclass(frozen=True, slots=True)
class GlobalVariable:
    """A variable as the object file has it: ``offset`` and the bytes that it starts with, in ``section``."""

    name: str
    section: str
    offset: int
    layout: Layout
    initial: bytes

    @property
    def text(self) -> str:
        """What it starts with, in one line."""
        return render(self.layout, decode(self.layout, self.initial))

    @property
    def constant(self) -> bool:
        return self.section.startswith(".rodata")

    def value(self, text: str) -> GlobalValue:
        """The value that ``text`` says; members that it leaves out keep what the object says. Raises
        InvalidInput.
        """
        try:
            data = encode(self.layout, parse(self.layout, text), self.initial)
        except InvalidInput as error:
            why = f"{error.what}: {error.why}"
            raise InvalidInput(f"invalid value for {self.name}", why, error.todo) from None
        words = render(self.layout, decode(self.layout, data))
        return GlobalValue(self.name, self.section, self.offset, data, words)


def globals_of(source: ObjectFile, program: str | None = None) -> tuple[GlobalVariable, ...]:
    """The variables of an object by section and offset; with ``program``, those of the sections that it
    refers to.
    """
    used = None if program is None else set(source.program(program).maps)
    elf = Elf.parse(source.data) if source.variables else None
    found = []
    for variable in source.variables:
        if used is not None and variable.section not in used:
            continue
        section = elf.section(variable.section) if elf else None
        data = bytes(section.data) if section is not None else b""
        initial = data[variable.offset : variable.offset + variable.size].ljust(variable.size, b"\0")
        layout = layout_of(source.btf, variable.type_id, variable.size)
        found.append(GlobalVariable(variable.name, variable.section, variable.offset, layout, initial))
    return tuple(found)


def with_globals(
    component: Component, source: ObjectFile, given: Iterable[str], *, shared: bool = False
) -> Component:
    """The component with ``NAME=VALUE`` for some of its variables; members that a value leaves out keep what
    the object says. ``shared``: it is loaded together with others of its object, so all of the object's
    variables are meant: whichever is loaded first makes the sections for all.

    Raises NotFound (no such variable), InvalidInput (a value that does not fit, a variable given twice).
    """
    variables = {
        variable.name: variable for variable in globals_of(source, None if shared else component.name)
    }
    made: dict[str, GlobalValue] = {variable.name: variable for variable in component.globals}
    seen = set()
    for text in given:
        name, value = variable_named(text)
        found = variables.get(name)
        if found is None:
            raise NotFound(
                f"{component.name} has no global variable {name!r}",
                f"it has {', '.join(variables)}" if variables else "it uses none",
            )
        if name in seen:
            raise InvalidInput(f"{name} is given twice")
        seen.add(name)
        made[name] = found.value(value)
    return replace(component, globals=tuple(made.values()))


def variable_named(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` as (name, value). Raises InvalidInput."""
    try:
        return assignment(text)
    except InvalidInput:
        raise InvalidInput(f"{text!r} gives no variable a value", todo="Write NAME=VALUE") from None


def patched(section: str, initial: bytes, values: Iterable[GlobalValue]) -> bytes:
    """A section's bytes with the values that were given for it. Raises InvalidInput where it is too small."""
    made = bytearray(initial)
    for value in values:
        if value.section == section:
            if value.offset + len(value.data) > len(made):
                raise InvalidInput(f"{value.name} lies outside {section}", f"it has {len(made)} bytes")
            made[value.offset : value.offset + len(value.data)] = value.data
    return bytes(made)
