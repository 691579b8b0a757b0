# SPDX-License-Identifier: Apache-2.0
"""The byte layout of BTF: header, sections, and the start of each type.

From the kernel's Documentation/bpf/btf.rst and uapi/linux/btf.h, up to kernel 7.2. The types are decoded in
``btf``.
"""

from __future__ import annotations

import struct
from array import array
from typing import Final, Literal

from xdpchain.errors import InvalidInput

from .btf_types import Kind

__all__ = ["MAX_TYPES", "BtfError", "ByteOrder", "byteorder_of", "cut", "scan"]

MAGIC: Final = 0xEB9F
VERSION: Final = 1
HEADER: Final = 24
"""Bytes of the header up to kernel 6.x; 7.x appends the position of a layout section."""
HEADER_WITH_LAYOUT: Final = 32
MAX_TYPES: Final = 0xFFFFF
# kind -> (bytes after the common 12, bytes per element)
_LAYOUT: Final = {
    Kind.INT: (4, 0),
    Kind.PTR: (0, 0),
    Kind.ARRAY: (12, 0),
    Kind.STRUCT: (0, 12),
    Kind.UNION: (0, 12),
    Kind.ENUM: (0, 8),
    Kind.FWD: (0, 0),
    Kind.TYPEDEF: (0, 0),
    Kind.VOLATILE: (0, 0),
    Kind.CONST: (0, 0),
    Kind.RESTRICT: (0, 0),
    Kind.FUNC: (0, 0),
    Kind.FUNC_PROTO: (0, 8),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (0, 12),
    Kind.FLOAT: (0, 0),
    Kind.DECL_TAG: (4, 0),
    Kind.TYPE_TAG: (0, 0),
    Kind.ENUM64: (0, 12),
}
_KINDS: Final = 128

ByteOrder = Literal["little", "big"]


class BtfError(InvalidInput):
    """Bytes that are not BTF, or inconsistent BTF."""

    def __init__(self, why: str, *, detail: str = "") -> None:
        super().__init__(
            "The BTF (type information) can't be read",
            why,
            "Rebuild the object with a current clang and -g",
            detail=detail,
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (_revive, (self.why, self.detail))


def _revive(why: str, detail: str) -> BtfError:
    return BtfError(why, detail=detail)


def byteorder_of(raw: bytes) -> ByteOrder:
    if len(raw) < HEADER:
        raise BtfError(f"it has {len(raw)} bytes, less than its header ({HEADER})")
    for order in ("little", "big"):
        if int.from_bytes(raw[:2], order) == MAGIC:
            return order
    raise BtfError(f"it starts with {raw[:2].hex()} instead of the BTF magic number")


def cut(raw: bytes, mark: str, *, split: bool) -> tuple[bytes, bytes, bytes]:
    """Types, strings and layout."""
    version, _flags, length = struct.unpack_from(mark + "BBI", raw, 2)
    if version != VERSION:
        raise BtfError(f"it has version {version}")
    if not HEADER <= length <= len(raw):
        raise BtfError(f"its header claims {length} bytes of {len(raw)}")
    type_at, type_len, string_at, string_len = struct.unpack_from(mark + "IIII", raw, 8)
    room = len(raw) - length
    if type_at % 4 or type_at + type_len > room or string_at + string_len > room:
        raise BtfError("its header points outside it")
    if type_at + type_len > string_at and string_at + string_len > type_at and type_len and string_len:
        raise BtfError("its types and strings overlap")
    strings = raw[length + string_at : length + string_at + string_len]
    if not (split and not strings) and (strings[-1:] != b"\0" or (strings[0] and not split)):
        raise BtfError("its strings don't begin and end with a zero byte")
    layout = b""
    if length >= HEADER_WITH_LAYOUT:
        layout_at, layout_len = struct.unpack_from(mark + "II", raw, HEADER)
        if layout_at + layout_len > room or layout_len % 4:
            raise BtfError("its layout section lies outside it")
        layout = raw[length + layout_at : length + layout_at + layout_len]
    return raw[length + type_at : length + type_at + type_len], strings, layout


def scan(body: bytes, mark: str, layout: bytes) -> tuple[array[int], bytearray]:
    """The start and kind of each type."""
    sizes: list[tuple[int, int] | None] = [_LAYOUT.get(kind) for kind in range(_KINDS)]  # type: ignore[call-overload]
    for kind in range(len(layout) // 4):
        if 0 < kind < _KINDS and sizes[kind] is None:
            sizes[kind] = (layout[4 * kind], layout[4 * kind + 1])
    starts, kinds = array("I"), bytearray()
    head = struct.Struct(mark + "4xI4x").unpack_from
    at, end = 0, len(body)
    while at < end:
        if end - at < 12:
            raise BtfError(f"type {len(starts) + 1} is cut off")
        # 24 bits for the number of elements, 7 for the kind: before kernel 7.x, 16 and 5, and zeros between.
        (info,) = head(body, at)
        kind = info >> 24 & 0x7F
        size = sizes[kind]
        if size is None:
            raise BtfError(f"type {len(starts) + 1} is of the unknown kind {kind}")
        starts.append(at)
        kinds.append(kind)
        at += 12 + size[0] + size[1] * (info & 0xFFFFFF)
    if at > end:
        raise BtfError(f"type {len(starts)} is cut off")
    return starts, kinds
