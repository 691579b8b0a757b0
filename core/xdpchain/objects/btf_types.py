# SPDX-License-Identifier: Apache-2.0
"""The types that BTF describes, as frozen values.

One class per kind of the kernel's Documentation/bpf/btf.rst, so that a reader can ``match`` on them.
References are type IDs, not objects, since BTF is a graph with cycles. ``Btf.type()`` resolves an ID.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from xdpchain.frozen import frozen

__all__ = [
    "Alias",
    "Array",
    "BtfType",
    "Composite",
    "Const",
    "DataSection",
    "DeclTag",
    "Enum",
    "Enum64",
    "Enumeration",
    "Enumerator",
    "Float",
    "Forward",
    "Func",
    "FuncProto",
    "Int",
    "IntEncoding",
    "Kind",
    "Linkage",
    "Member",
    "Opaque",
    "Parameter",
    "Placement",
    "Pointer",
    "Restrict",
    "Struct",
    "TypeTag",
    "Typedef",
    "Union",
    "Variable",
    "Void",
    "Volatile",
]


class Kind(IntEnum):
    """``BTF_KIND_*`` of uapi/linux/btf.h; OPAQUE stands for a kind from a newer kernel."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19
    OPAQUE = 255


class Linkage(IntEnum):
    """Linkage of a function or variable."""

    STATIC = 0
    GLOBAL = 1
    EXTERN = 2


class IntEncoding(IntEnum):
    """How an integer's bits are interpreted; NONE is an unsigned number."""

    NONE = 0
    SIGNED = 1
    CHAR = 2
    BOOL = 4


@frozen
class BtfType:
    """The base of all types: an ID and a name (empty if anonymous)."""

    kind: ClassVar[Kind]
    id: int
    name: str


@frozen
class Void(BtfType):
    """Type ID 0."""

    kind: ClassVar[Kind] = Kind.VOID


@frozen
class Int(BtfType):
    """An integer of ``size`` bytes; ``bits`` and ``bit_offset`` are less than the whole in old bitfields."""

    kind: ClassVar[Kind] = Kind.INT
    size: int
    bits: int
    bit_offset: int
    encoding: IntEncoding


@frozen
class Float(BtfType):
    """A floating-point number of ``size`` bytes."""

    kind: ClassVar[Kind] = Kind.FLOAT
    size: int


@frozen
class Pointer(BtfType):
    """A pointer to ``target``."""

    kind: ClassVar[Kind] = Kind.PTR
    target: int


@frozen
class Array(BtfType):
    """``count`` elements; ``index`` is the type of the index."""

    kind: ClassVar[Kind] = Kind.ARRAY
    element: int
    index: int
    count: int


@frozen
class Member:
    """A member of a struct or union; ``bit_size`` is 0 unless it is a bitfield."""

    name: str
    type_id: int
    bit_offset: int
    bit_size: int = 0


@frozen
class Composite(BtfType):
    """A struct or union of ``size`` bytes. ``bitfields``: its members' offsets include bit sizes."""

    size: int
    members: tuple[Member, ...]
    bitfields: bool


@frozen
class Struct(Composite):
    """A struct."""

    kind: ClassVar[Kind] = Kind.STRUCT


@frozen
class Union(Composite):
    """A union."""

    kind: ClassVar[Kind] = Kind.UNION


@frozen
class Enumerator:
    """A name in an enumeration."""

    name: str
    value: int


@frozen
class Enumeration(BtfType):
    """An enumeration of ``size`` bytes; ``signed``: its values are signed."""

    size: int
    signed: bool
    values: tuple[Enumerator, ...]


@frozen
class Enum(Enumeration):
    """An enumeration with 32-bit values."""

    kind: ClassVar[Kind] = Kind.ENUM


@frozen
class Enum64(Enumeration):
    """An enumeration with 64-bit values (kernel 6.0, 6089fb325cf7)."""

    kind: ClassVar[Kind] = Kind.ENUM64


@frozen
class Forward(BtfType):
    """A struct or union that was declared but not defined."""

    kind: ClassVar[Kind] = Kind.FWD
    union: bool


@frozen
class Alias(BtfType):
    """Another name for ``target`` with the same layout: typedef, qualifier, type tag."""

    target: int


@frozen
class Typedef(Alias):
    """A typedef."""

    kind: ClassVar[Kind] = Kind.TYPEDEF


@frozen
class Volatile(Alias):
    """A ``volatile`` type."""

    kind: ClassVar[Kind] = Kind.VOLATILE


@frozen
class Const(Alias):
    """A ``const`` type."""

    kind: ClassVar[Kind] = Kind.CONST


@frozen
class Restrict(Alias):
    """A ``restrict`` type."""

    kind: ClassVar[Kind] = Kind.RESTRICT


@frozen
class TypeTag(Alias):
    """``name`` is the tag; ``attribute``: it is a compiler attribute (kernel 6.15, ea70faa1f244)."""

    kind: ClassVar[Kind] = Kind.TYPE_TAG
    attribute: bool


@frozen
class Parameter:
    """A parameter of a function; the last one of a variadic function has no name and type 0."""

    name: str
    type_id: int


@frozen
class FuncProto(BtfType):
    """The signature of a function: its return type and parameters."""

    kind: ClassVar[Kind] = Kind.FUNC_PROTO
    returns: int
    parameters: tuple[Parameter, ...]


@frozen
class Func(BtfType):
    """A function; ``prototype`` is the ID of its FuncProto."""

    kind: ClassVar[Kind] = Kind.FUNC
    prototype: int
    linkage: Linkage


@frozen
class Variable(BtfType):
    """A variable of type ``type_id``."""

    kind: ClassVar[Kind] = Kind.VAR
    type_id: int
    linkage: Linkage


@frozen
class Placement:
    """The position of a variable (or external function) in a section: bytes from its start."""

    type_id: int
    offset: int
    size: int


@frozen
class DataSection(BtfType):
    """A data section. clang sets ``size`` and global variables' offsets to 0: they are in ELF symbols."""

    kind: ClassVar[Kind] = Kind.DATASEC
    size: int
    variables: tuple[Placement, ...]


@frozen
class DeclTag(BtfType):
    """A tag (``name``) on a declaration, or on its member or parameter ``component`` if that is not -1."""

    kind: ClassVar[Kind] = Kind.DECL_TAG
    target: int
    component: int
    attribute: bool


@frozen
class Opaque(BtfType):
    """A type of an unknown kind (``number``), whose length comes from BTF's layout section."""

    kind: ClassVar[Kind] = Kind.OPAQUE
    number: int
