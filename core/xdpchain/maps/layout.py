# SPDX-License-Identifier: Apache-2.0
"""The layout of a key or value, compiled from BTF once: all that decoding and encoding need, without
references into BTF. Pure.

A value that can't be split into parts (no BTF, a type that does not fit the map, unbounded nesting) is
`Opaque`: its bytes are shown in hexadecimal.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Final

from xdpchain.frozen import frozen
from xdpchain.objects import btf_types as types
from xdpchain.objects.btf import Btf, BtfError

__all__ = [
    "Field",
    "Form",
    "Layout",
    "Number",
    "Opaque",
    "Prefix",
    "Record",
    "Sequence",
    "Text",
    "declared_types",
    "layout_of",
]

MOST_PARTS: Final = 1 << 20
"""Most parts of a value that are decoded: hostile BTF can nest to claim any number of them."""


class Form(Enum):
    """How the bits of a number are interpreted."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"
    BOOL = "bool"
    FLOAT = "float"
    POINTER = "pointer"
    NETWORK = "network order"
    IPV4 = "IPv4 address"
    IPV6 = "IPv6 address"


@frozen
class Number:
    """A number of ``bits`` bits in ``size`` bytes; ``names`` are its enumerators."""

    size: int
    bits: int
    form: Form = Form.UNSIGNED
    names: tuple[tuple[str, int], ...] = ()
    shift: int = 0
    """Where the bits start within the bytes (``bit_offset`` of an old integer type)."""


@frozen
class Text:
    """An array of char: text up to the first zero byte."""

    size: int


@frozen
class Sequence:
    """``count`` consecutive elements."""

    element: Layout
    count: int
    size: int


@frozen
class Field:
    """A member: ``at`` is its bit offset in the record, ``bits`` its width if it is a bitfield, else None."""

    name: str
    at: int
    layout: Layout
    bits: int | None = None


@frozen
class Record:
    """A struct, union or data section. Fields may overlap; members of anonymous members are members of the
    record itself, as in C.
    """

    fields: tuple[Field, ...]
    size: int

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)


@frozen
class Prefix:
    """The key of an LPM trie over addresses: 32 bits of prefix length, then an address of ``bits`` bits."""

    bits: int

    @property
    def size(self) -> int:
        return 4 + self.bits // 8


@frozen
class Opaque:
    """Bytes of unknown type."""

    size: int


Layout = Number | Text | Sequence | Record | Prefix | Opaque

_NETWORK: Final = {
    "__be16": Form.NETWORK,
    "__be64": Form.NETWORK,
    "__be32": Form.IPV4,
    "in_addr_t": Form.IPV4,
}
_ADDRESSES: Final = {("in_addr", 4): Form.IPV4, ("in6_addr", 16): Form.IPV6}


def layout_of(btf: Btf | None, type_id: int, size: int, *, lpm: bool = False) -> Layout:
    """The layout of a value of ``size`` bytes. ``lpm``: it is the key of an LPM trie."""
    if btf is None or not type_id:
        return Opaque(size)
    try:
        layout, weight = _Compiler(btf).layout(type_id)
    except BtfError:
        return Opaque(size)
    if layout.size != size or weight > MOST_PARTS:
        return Opaque(size)
    if lpm and (prefix := _prefix(layout)):
        return prefix
    return layout


def declared_types(btf: Btf | None, name: str) -> tuple[int, int]:
    """The key and value types that the map's definition (in ``.maps``) declares; 0 if undeclared.

    The kernel drops types that it does not accept (an enumeration as an array's key) or does not use (device
    maps), but the definition is still in the program's BTF.
    """
    section = btf.datasec(".maps") if btf is not None else None
    if btf is None or section is None:
        return 0, 0
    try:
        for variable, _ in btf.variables(section):
            definition = btf.resolve(variable.type_id)
            if variable.name == name and isinstance(definition, types.Struct):
                pointers = {member.name: btf.resolve(member.type_id) for member in definition.members}
                key, value = (
                    pointer.target if isinstance(pointer, types.Pointer) else 0
                    for pointer in (pointers.get("key"), pointers.get("value"))
                )
                return key, value
    except BtfError:
        pass
    return 0, 0


def _prefix(layout: Layout) -> Prefix | None:
    if not isinstance(layout, Record) or len(layout.fields) != 2:
        return None
    first, second = layout.fields
    shapes = (first.at == 0 and first.layout.size == 4, second.at == 32 and second.bits is None)
    if all(shapes) and isinstance(second.layout, Number) and second.layout.form in (Form.IPV4, Form.IPV6):
        return Prefix(second.layout.bits)
    return None


class _Compiler:
    """Compiles layouts with their weights, the number of parts in a value."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._layouts: dict[int, tuple[Layout, int]] = {}

    def layout(self, type_id: int, depth: int = 0) -> tuple[Layout, int]:
        found = self._layouts.get(type_id)
        if found is None:
            if depth > 64:
                raise BtfError(f"type {type_id} nests too deeply")
            found = self._layouts[type_id] = self._make(type_id, depth)
        return found

    def _make(self, type_id: int, depth: int) -> tuple[Layout, int]:
        btf_type = self._btf.type(type_id)
        for _ in range(64):
            if isinstance(btf_type, types.Typedef) and (form := _NETWORK.get(btf_type.name)):
                size = self._btf.size_of(btf_type.id)
                return Number(size, 8 * size, form), 1
            if not isinstance(btf_type, types.Alias):
                break
            btf_type = self._btf.type(btf_type.target)
        match btf_type:
            case types.Int():
                return self._int(btf_type), 1
            case types.Float():
                form = Form.FLOAT if btf_type.size in (4, 8) else Form.UNSIGNED
                return Number(btf_type.size, 8 * btf_type.size, form), 1
            case types.Pointer():
                return Number(8, 64, Form.POINTER), 1
            case types.Enumeration():
                form = Form.SIGNED if btf_type.signed else Form.UNSIGNED
                names = tuple(
                    {value.name: value.value for value in reversed(btf_type.values) if value.name}.items()
                )
                names = names[::-1]
                return Number(btf_type.size, 8 * btf_type.size, form, names), 1
            case types.Array():
                return self._array(btf_type, depth)
            case types.Composite():
                if form := _ADDRESSES.get((btf_type.name, btf_type.size)):
                    return Number(btf_type.size, 8 * btf_type.size, form), 1
                return self._record(btf_type, depth)
            case types.DataSection():
                return self._section(btf_type, depth)
            case types.Variable():
                return self.layout(btf_type.type_id, depth + 1)
            case _:
                raise BtfError(f"type {type_id} has no size")

    def _int(self, integer: types.Int) -> Number:
        form = {
            types.IntEncoding.SIGNED: Form.SIGNED,
            types.IntEncoding.BOOL: Form.BOOL,
        }.get(integer.encoding, Form.UNSIGNED)
        return Number(integer.size, integer.bits, form, shift=integer.bit_offset)

    def _array(self, array: types.Array, depth: int) -> tuple[Layout, int]:
        element = self._btf.resolve(array.element)
        size = self._btf.size_of(array.id)
        if isinstance(element, types.Int) and element.size == 1 and _is_char(element):
            return Text(size), 1
        made, weight = self.layout(array.element, depth + 1)
        if not made.size or array.count * weight > MOST_PARTS:
            return Opaque(size), 1
        return Sequence(made, array.count, size), 1 + array.count * weight

    def _record(self, composite: types.Composite, depth: int) -> tuple[Layout, int]:
        fields: list[Field] = []
        weight = 1
        for i, member in enumerate(composite.members):
            made, parts = self.layout(member.type_id, depth + 1)
            weight += parts
            if weight > MOST_PARTS:
                return Opaque(composite.size), 1
            if member.bit_offset + (member.bit_size or 8 * made.size) > 8 * composite.size:
                raise BtfError(f"member {member.name!r} of type {composite.id} lies outside it")
            if not member.name and isinstance(made, Record):
                fields += [replace(inner, at=inner.at + member.bit_offset) for inner in made.fields]
            elif member.name:  # an unnamed bitfield is padding
                bits = member.bit_size or None
                if bits is None and member.bit_offset % 8:  # old BTF: the integer type itself is the bitfield
                    bits = made.bits if isinstance(made, Number) else None
                if bits is not None and isinstance(made, Number):
                    signed = made.form in (Form.SIGNED, Form.BOOL)
                    made = replace(made, form=made.form if signed else Form.UNSIGNED)
                elif bits is not None or member.bit_offset % 8:
                    raise BtfError(f"member {member.name!r} of type {composite.id} is not a bitfield")
                fields.append(Field(member.name, member.bit_offset, made, bits))
            elif not member.bit_size:
                fields.append(Field(f"_{i}", member.bit_offset, made))
        return Record(_distinct(fields), composite.size), weight

    def _section(self, section: types.DataSection, depth: int) -> tuple[Layout, int]:
        fields: list[Field] = []
        weight = 1
        for variable, placement in self._btf.variables(section):
            made, parts = self.layout(variable.type_id, depth + 1)
            weight += parts
            if made.size == placement.size and placement.offset + placement.size <= section.size:
                fields.append(Field(variable.name, 8 * placement.offset, made))
        return Record(_distinct(fields), section.size), weight


def _is_char(integer: types.Int) -> bool:
    return integer.encoding is types.IntEncoding.CHAR or integer.name == "char"


def _distinct(fields: list[Field]) -> tuple[Field, ...]:
    """Fields with unique names: unlike C, BTF may repeat a name."""
    seen: set[str] = set()
    distinct = []
    for field in fields:
        name = field.name
        while name in seen:
            name += f"@{field.at}"
        seen.add(name)
        distinct.append(field if name == field.name else replace(field, name=name))
    return tuple(distinct)
