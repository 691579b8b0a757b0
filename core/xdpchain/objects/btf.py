# SPDX-License-Identifier: Apache-2.0
"""BTF, the kernel's type format, from bytes to frozen types.

Written from Documentation/bpf/btf.rst and uapi/linux/btf.h. One pass finds where each type starts; types and
names are decoded on demand, so the 150,000 types of a kernel cost only a tenth of a second. Errors that the
pass can't see (a reference to a missing type) surface when the type is read; ``Btf.check()`` reads
everything.

Every error is a BtfError.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from . import btf_types as types
from .btf_layout import MAX_TYPES, BtfError, ByteOrder, byteorder_of, cut, scan
from .btf_types import BtfType, Kind

__all__ = ["MAX_DEPTH", "Btf", "BtfError"]

MAX_DEPTH: Final = 64
"""Deepest nesting of types by value (aliases, arrays, members); the kernel's is 32 (MAX_RESOLVE_DEPTH)."""
POINTER_SIZE: Final = 8
"""BPF is a 64-bit machine on any host."""

_VOID: Final = types.Void(0, "void")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Btf:
    """Decoded BTF. Immutable; created by ``Btf.parse()``.

    ``base`` is the BTF that this one extends (split BTF, as in kernel modules): its types and strings come
    first. Thread-safe: cached values do not depend on who computes them.
    """

    base: Btf | None
    byteorder: ByteOrder
    first_id: int
    _mark: str
    _types: bytes
    _strings: bytes
    _string_base: int
    _starts: array[int]
    _kinds: bytearray
    _names: dict[int, str]
    _decoded: dict[int, BtfType]
    _by_name: dict[Kind, dict[str, list[int]]]

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview, *, base: Btf | None = None) -> Btf:
        """Decode ``data``, in either byte order. Raises BtfError."""
        raw = bytes(data)
        order = byteorder_of(raw)
        mark = "<" if order == "little" else ">"
        body, strings, layout = cut(raw, mark, split=base is not None)
        starts, kinds = scan(body, mark, layout)
        first_id = base.type_count if base else 1
        if first_id + len(starts) > MAX_TYPES:
            raise BtfError(f"it has more than {MAX_TYPES} types")

        string_base = base._string_base + len(base._strings) if base else 0
        return cls(
            base, order, first_id, mark, body, strings, string_base, starts, kinds, {0: ""}, {0: _VOID}, {}
        )

    def __repr__(self) -> str:
        return f"<Btf of {self.type_count - 1} types>"

    def __len__(self) -> int:
        return self.type_count

    @property
    def type_count(self) -> int:
        """The number of type IDs, including void (0) and those of the base."""
        return self.first_id + len(self._starts)

    # -- types ------------------------------------------------------------------------------------------

    def type(self, type_id: int) -> BtfType:
        """The type with this ID. Raises BtfError if it is missing or malformed."""
        found = self._decoded.get(type_id)
        if found is not None:
            return found
        if 0 < type_id < self.first_id and self.base is not None:
            return self.base.type(type_id)
        if not self.first_id <= type_id < self.type_count:
            raise BtfError(f"there is no type {type_id} among {self.type_count}")
        found = self._decode(type_id)
        self._decoded[type_id] = found
        return found

    def __iter__(self) -> Iterator[BtfType]:
        """Every type except void, by ID; those of the base first."""
        if self.base is not None:
            yield from self.base
        for type_id in range(self.first_id, self.type_count):
            yield self.type(type_id)

    def of_kind(self, kind: Kind) -> Iterator[BtfType]:
        """Every type of one kind, by ID; those of the base first. Other types are not decoded."""
        if self.base is not None:
            yield from self.base.of_kind(kind)
        at = self._kinds.find(kind)
        while at >= 0:
            yield self.type(self.first_id + at)
            at = self._kinds.find(kind, at + 1)

    def find(self, name: str, kind: Kind) -> BtfType | None:
        """The first type with this name and kind, or None. Raises BtfError."""
        found = self._named(name, kind)
        return self.type(found[0]) if found else None

    def functions(self) -> tuple[types.Func, ...]:
        """All functions, by ID."""
        return tuple(func for func in self.of_kind(Kind.FUNC) if isinstance(func, types.Func))

    def datasecs(self, name: str) -> tuple[types.DataSection, ...]:
        """All data sections with this name: merged BTF can have several."""
        sections = map(self.type, self._named(name, Kind.DATASEC))
        return tuple(section for section in sections if isinstance(section, types.DataSection))

    def datasec(self, name: str) -> types.DataSection | None:
        """The first data section with this name, or None."""
        found = self.find(name, Kind.DATASEC)
        return found if isinstance(found, types.DataSection) else None

    def variables(self, section: types.DataSection) -> Iterator[tuple[types.Variable, types.Placement]]:
        """The variables of a data section with their placements, without external functions."""
        for placement in section.variables:
            variable = self.type(placement.type_id)
            if isinstance(variable, types.Variable):
                yield variable, placement

    def resolve(self, type_id: int) -> BtfType:
        """The type behind typedefs, qualifiers and type tags. Raises BtfError if they form a cycle."""
        btf_type = self.type(type_id)
        for _ in range(MAX_DEPTH):
            if not isinstance(btf_type, types.Alias):
                return btf_type
            btf_type = self.type(btf_type.target)
        raise BtfError(f"type {type_id} is an endless chain of aliases")

    def size_of(self, type_id: int) -> int:
        """The size of this type in bytes. Raises BtfError if it has none (void, a function)."""
        count = 1
        for _ in range(MAX_DEPTH):
            btf_type = self.resolve(type_id)
            match btf_type:
                case types.Array():
                    count *= btf_type.count
                    type_id = btf_type.element
                    continue
                case types.Variable():
                    type_id = btf_type.type_id
                    continue
                case types.Pointer():
                    size = POINTER_SIZE
                case (
                    types.Int()
                    | types.Float()
                    | types.Composite()
                    | types.Enumeration()
                    | types.DataSection()
                ):
                    size = btf_type.size
                case _:
                    raise BtfError(f"type {type_id} ({btf_type.kind.name} {btf_type.name!r}) has no size")
            if count * size >= 1 << 32:
                raise BtfError(f"type {type_id} is larger than 4 GB")
            return count * size
        raise BtfError(f"type {type_id} nests deeper than {MAX_DEPTH}")

    def declared_number(self, type_id: int) -> int:
        """The number that ``__uint(name, number)`` declares: a pointer to an array of that length.

        This is how libbpf's map definitions and libxdp's run configurations spell numbers. Raises BtfError.
        """
        pointer = self.resolve(type_id)
        if isinstance(pointer, types.Pointer):
            pointed = self.resolve(pointer.target)
            if isinstance(pointed, types.Array):
                return pointed.count
        raise BtfError(f"type {type_id} is not a number declared with __uint()")

    def check(self) -> None:
        """Read every type and reference, so that later reads can't fail. Raises BtfError.

        Also rejects types that contain themselves or nest deeper than MAX_DEPTH, so that values can be
        rendered recursively.
        """
        height: dict[int, int] = {}  # -1: being visited
        for root in self:
            if root.id in height:
                continue
            path = [root.id]
            while path:
                btf_type = self.type(path[-1])
                if height.get(btf_type.id, -1) >= 0:
                    path.pop()
                    continue
                parts = _contained(btf_type)
                if btf_type.id not in height:
                    height[btf_type.id] = -1
                    pending = [part for part in parts if part not in height]
                    if pending:
                        path.extend(pending)
                        continue
                tallest = 0
                for part in parts:
                    below = height.get(part, -1)
                    if below < 0:
                        raise BtfError(f"type {btf_type.id} ({btf_type.name!r}) contains itself")
                    tallest = max(tallest, below)
                if tallest >= MAX_DEPTH:
                    raise BtfError(f"type {btf_type.id} ({btf_type.name!r}) nests deeper than {MAX_DEPTH}")
                height[btf_type.id] = tallest + 1
                path.pop()

    def _named(self, name: str, kind: Kind) -> list[int]:
        index = self._by_name.get(kind)
        if index is None:
            index = {}
            for btf_type in self.of_kind(kind):
                index.setdefault(btf_type.name, []).append(btf_type.id)
            self._by_name[kind] = index
        return index.get(name, [])

    def text(self, offset: int) -> str:
        """A string by its offset, such as a source line; empty if there is none. Unlike names it may contain
        anything.
        """
        at = offset - self._string_base
        if at < 0:
            return self.base.text(offset) if self.base is not None else ""
        end = self._strings.find(0, at)
        return self._strings[at : end if end >= 0 else at].decode(errors="replace")

    # -- decoding ---------------------------------------------------------------------------------------

    def _string(self, offset: int) -> str:
        """The string that starts at ``offset``. Only whole strings are valid, which bounds the memory for
        names.
        """
        found = self._names.get(offset)
        if found is not None:
            return found
        if offset < self._string_base and self.base is not None:
            return self.base._string(offset)
        at = offset - self._string_base
        if not 0 <= at < len(self._strings) or (at and self._strings[at - 1]):
            raise BtfError(f"there is no name at offset {offset}")
        try:
            found = self._strings[at : self._strings.index(0, at)].decode()
        except UnicodeDecodeError:
            raise BtfError(f"the name at offset {offset} is not UTF-8") from None
        if not found.isprintable():
            raise BtfError(f"the name at offset {offset} has unprintable characters", detail=repr(found))
        self._names[offset] = found
        return found

    def _unpack(self, form: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(self._mark + form, self._types, at)

    def _reference(self, type_id: int) -> int:
        if type_id >= self.type_count:
            raise BtfError(f"there is no type {type_id} among {self.type_count}")
        return type_id

    def _decode(self, type_id: int) -> BtfType:
        index = type_id - self.first_id
        at = self._starts[index]
        name_offset, info, third = self._unpack("III", at)
        name, vlen, flag = self._string(name_offset), info & 0xFFFFFF, bool(info >> 31)
        at += 12
        kind = self._kinds[index]
        match kind:
            case Kind.INT:
                return self._int(type_id, name, third, *self._unpack("I", at))
            case Kind.FLOAT:
                if third not in (2, 4, 8, 12, 16):
                    raise BtfError(f"type {type_id} is a floating-point number of {third} bytes")
                return types.Float(type_id, name, third)
            case Kind.PTR:
                return types.Pointer(type_id, name, self._reference(third))
            case Kind.ARRAY:
                element, index_type, count = self._unpack("III", at)
                return types.Array(
                    type_id, name, self._reference(element), self._reference(index_type), count
                )
            case Kind.STRUCT | Kind.UNION:
                composite = types.Struct if kind == Kind.STRUCT else types.Union
                return composite(type_id, name, third, self._members(type_id, at, vlen, third, flag), flag)
            case Kind.ENUM | Kind.ENUM64:
                return self._enumeration(type_id, name, at, vlen, third, flag, kind == Kind.ENUM64)
            case Kind.FWD:
                return types.Forward(type_id, name, flag)
            case Kind.TYPE_TAG:
                return types.TypeTag(type_id, name, self._reference(third), flag)
            case Kind.TYPEDEF | Kind.VOLATILE | Kind.CONST | Kind.RESTRICT:
                return _ALIASES[Kind(kind)](type_id, name, self._reference(third))
            case Kind.FUNC:
                return types.Func(type_id, name, self._reference(third), _linkage(type_id, vlen))
            case Kind.FUNC_PROTO:
                flat = self._unpack(f"{2 * vlen}I", at)
                parameters = tuple(
                    types.Parameter(self._string(flat[i]), self._reference(flat[i + 1]))
                    for i in range(0, 2 * vlen, 2)
                )
                return types.FuncProto(type_id, name, self._reference(third), parameters)
            case Kind.VAR:
                linkage = _linkage(type_id, self._unpack("I", at)[0])
                return types.Variable(type_id, name, self._reference(third), linkage)
            case Kind.DATASEC:
                flat = self._unpack(f"{3 * vlen}I", at)
                placements = tuple(
                    types.Placement(self._reference(flat[i]), flat[i + 1], flat[i + 2])
                    for i in range(0, 3 * vlen, 3)
                )
                return types.DataSection(type_id, name, third, placements)
            case Kind.DECL_TAG:
                component = self._unpack("i", at)[0]
                return types.DeclTag(type_id, name, self._reference(third), component, flag)
            case _:
                return types.Opaque(type_id, name, kind)

    def _int(self, type_id: int, name: str, size: int, bits: int) -> types.Int:
        encoding, bit_offset, width = bits >> 24 & 0xF, bits >> 16 & 0xFF, bits & 0xFF
        if encoding not in (0, 1, 2, 4):
            raise BtfError(f"type {type_id} is an integer of unknown encoding {encoding}")
        if size > 16 or not 0 < width <= 8 * size - bit_offset:
            raise BtfError(f"type {type_id} is an integer of {width} bits at {bit_offset} in {size} bytes")
        return types.Int(type_id, name, size, width, bit_offset, types.IntEncoding(encoding))

    def _members(
        self, type_id: int, at: int, vlen: int, size: int, bitfields: bool
    ) -> tuple[types.Member, ...]:
        flat = self._unpack(f"{3 * vlen}I", at)
        members = []
        for i in range(0, 3 * vlen, 3):
            offset, width = (flat[i + 2] & 0xFFFFFF, flat[i + 2] >> 24) if bitfields else (flat[i + 2], 0)
            member = types.Member(self._string(flat[i]), self._reference(flat[i + 1]), offset, width)
            if offset + width > 8 * size:
                raise BtfError(f"member {member.name!r} of type {type_id} lies outside its {size} bytes")
            members.append(member)
        return tuple(members)

    def _enumeration(
        self, type_id: int, name: str, at: int, vlen: int, size: int, signed: bool, wide: bool
    ) -> types.Enumeration:
        if size not in (1, 2, 4, 8):
            raise BtfError(f"type {type_id} is an enumeration of {size} bytes")
        values = []
        if wide:
            flat = self._unpack(f"{3 * vlen}I", at)
            for i in range(0, 3 * vlen, 3):
                value = flat[i + 1] | flat[i + 2] << 32
                values.append((flat[i], value - (1 << 64) if signed and value >> 63 else value))
        else:
            flat = self._unpack(f"{2 * vlen}I", at)
            for i in range(0, 2 * vlen, 2):
                value = flat[i + 1]
                values.append((flat[i], value - (1 << 32) if signed and value >> 31 else value))
        enumerators = tuple(types.Enumerator(self._string(offset), value) for offset, value in values)
        return (types.Enum64 if wide else types.Enum)(type_id, name, size, signed, enumerators)


_ALIASES: Final = {
    Kind.TYPEDEF: types.Typedef,
    Kind.VOLATILE: types.Volatile,
    Kind.CONST: types.Const,
    Kind.RESTRICT: types.Restrict,
}


def _linkage(type_id: int, linkage: int) -> types.Linkage:
    if linkage > types.Linkage.EXTERN:
        raise BtfError(f"type {type_id} has the unknown linkage {linkage}")
    return types.Linkage(linkage)


def _contained(btf_type: BtfType) -> tuple[int, ...]:
    """The types whose values are part of this type's value; targets of pointers are not."""
    match btf_type:
        case types.Alias():
            return (btf_type.target,)
        case types.Array():
            return (btf_type.element,)
        case types.Composite():
            return tuple({member.type_id: None for member in btf_type.members})
        case types.Variable():
            return (btf_type.type_id,)
        case types.DataSection():
            return tuple({placement.type_id: None for placement in btf_type.variables})
        case _:
            return ()
