# SPDX-License-Identifier: Apache-2.0
"""Which source lines the instructions of a program come from: out of an object file's .BTF.ext, or of the
func_info and line_info records that a program is loaded with. Pure.

Layout of .BTF.ext: the kernel's Documentation/bpf/btf.rst. The text of the lines is part of the BTF.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from xdpchain.bytecode.instructions import SIZE
from xdpchain.bytecode.sites import SourceLine, SourceMap
from xdpchain.bytecode.weaving import LineRecord

from .btf import Btf
from .elf import Elf, bad_object

__all__ = ["line_table", "source_map"]

_MAGIC: Final = 0xEB9F
_HEADER: Final = 24
_RECORD: Final = 16
_MARKS: Final = {"little": "<", "big": ">"}


def line_table(elf: Elf, btf: Btf) -> dict[str, tuple[LineRecord, ...]]:
    """The line_info of each section by its name, with indices of instructions within the section; empty
    without .BTF.ext. Raises InvalidInput where that contradicts itself.
    """
    section = elf.section(".BTF.ext")
    if section is None:
        return {}
    data, mark = bytes(section.data), _MARKS[btf.byteorder]
    try:
        magic, _, _, length, _, _, start, size = struct.unpack_from(f"{mark}HBBIIIII", data)
        if magic != _MAGIC or length < _HEADER:
            raise bad_object("its .BTF.ext has no header that is understood")
        table = data[length + start : length + start + size]
        if len(table) != size:
            raise bad_object("its .BTF.ext is cut off")
        return _sections(table, mark, btf) if size else {}
    except struct.error:
        raise bad_object("its .BTF.ext is cut off") from None


def _sections(table: bytes, mark: str, btf: Btf) -> dict[str, tuple[LineRecord, ...]]:
    (record_size,) = struct.unpack_from(f"{mark}I", table)
    if record_size < _RECORD:
        raise bad_object("its .BTF.ext has records that are too short")
    found: dict[str, tuple[LineRecord, ...]] = {}
    at = 4
    while at < len(table):
        name, count = struct.unpack_from(f"{mark}II", table, at)
        at += 8
        if count * record_size > len(table) - at:
            raise bad_object("its .BTF.ext is cut off")
        records = []
        for place in range(at, at + count * record_size, record_size):
            offset, file, text, line = struct.unpack_from(f"{mark}IIII", table, place)
            records.append(LineRecord(offset // SIZE, file, text, line))
        found[btf.text(name)] = tuple(sorted(records))
        at += count * record_size
    return found


def source_map(btf: Btf, functions: Iterable[tuple[int, str]], records: Iterable[LineRecord]) -> SourceMap:
    """What these records say, with the names of the functions that begin at these instructions."""
    known: dict[LineRecord, SourceLine] = {}
    lines = []
    for record in sorted(records):
        kind = record._replace(insn=0)
        if kind not in known:
            known[kind] = SourceLine.clean(btf.text(record.file), record.place >> 10, btf.text(record.text))
        lines.append((record.insn, known[kind]))
    return SourceMap(tuple(sorted(functions)), tuple(lines))
