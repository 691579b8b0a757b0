# SPDX-License-Identifier: Apache-2.0
"""The tables of an object file's .BTF.ext: records about instructions, by section. Pure.

Layout: the kernel's Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum
from typing import Final

from .btf import Btf
from .elf import Elf, bad_object

__all__ = ["Table", "records"]

_MAGIC: Final = 0xEB9F
_MARKS: Final = {"little": "<", "big": ">"}


class Table(Enum):
    """A table: the position of its offset and length in the header, and its fields per record (all u32)."""

    FUNCTIONS = 8, 2
    """Offset of the instruction in its section, type ID."""
    LINES = 16, 4
    """Offset, file, text, line and column."""
    RELOCATIONS = 24, 4
    """Offset, type ID, access string, ``enum bpf_core_relo_kind``."""


def records(elf: Elf, btf: Btf, table: Table) -> dict[str, list[tuple[int, ...]]]:
    """The records by section name; empty if the object has no such table. Raises InvalidInput if the table is
    inconsistent.
    """
    section = elf.section(".BTF.ext")
    if section is None:
        return {}
    data, mark = bytes(section.data), _MARKS[btf.byteorder]
    field, width = table.value
    try:
        magic, _, _, header = struct.unpack_from(f"{mark}HBBI", data)
        if magic != _MAGIC or header < Table.RELOCATIONS.value[0]:
            raise bad_object("its .BTF.ext has an unknown header")
        if header < field + 8:  # from a compiler without this table
            return {}
        start, size = struct.unpack_from(f"{mark}II", data, field)
        content = data[header + start : header + start + size]
        if len(content) != size:
            raise bad_object("its .BTF.ext is cut off")
        records_by_section: dict[str, list[tuple[int, ...]]] = {}
        for name, inside in _sections(content, mark, width) if size else ():
            records_by_section.setdefault(btf.text(name), []).extend(inside)
        return records_by_section
    except struct.error:
        raise bad_object("its .BTF.ext is cut off") from None


def _sections(content: bytes, mark: str, width: int) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    (record_size,) = struct.unpack_from(f"{mark}I", content)
    if record_size < 4 * width:
        raise bad_object("its .BTF.ext has records that are too short")
    at = 4
    while at < len(content):
        name, count = struct.unpack_from(f"{mark}II", content, at)
        at += 8
        end = at + count * record_size
        if end > len(content):
            raise bad_object("its .BTF.ext is cut off")
        yield name, [struct.unpack_from(f"{mark}{width}I", content, at) for at in range(at, end, record_size)]
        at = end
