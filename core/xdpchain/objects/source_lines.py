# SPDX-License-Identifier: Apache-2.0
"""Map a program's instructions to source lines, from an object file's .BTF.ext or the func_info and line_info
records of a loaded program. Pure.

The lines' text is part of the BTF.
"""

from __future__ import annotations

from collections.abc import Iterable

from xdpchain.bytecode.instructions import SIZE
from xdpchain.bytecode.sites import SourceLine, SourceMap
from xdpchain.bytecode.weaving import LineRecord

from .btf import Btf
from .btf_ext import Table, records
from .elf import Elf

__all__ = ["line_table", "source_map"]


def line_table(elf: Elf, btf: Btf) -> dict[str, tuple[LineRecord, ...]]:
    """The line_info by section name, with instruction indexes within the section; empty without .BTF.ext.
    Raises InvalidInput if that is inconsistent.
    """
    return {
        section: tuple(sorted(LineRecord(at // SIZE, file, text, line) for at, file, text, line in inside))
        for section, inside in records(elf, btf, Table.LINES).items()
    }


def source_map(btf: Btf, functions: Iterable[tuple[int, str]], lines: Iterable[LineRecord]) -> SourceMap:
    """A source map from these records, with the functions' names by their first instruction."""
    known: dict[LineRecord, SourceLine] = {}
    placed = []
    for record in sorted(lines):
        kind = record._replace(insn=0)
        if kind not in known:
            known[kind] = SourceLine.clean(btf.text(record.file), record.place >> 10, btf.text(record.text))
        placed.append((record.insn, known[kind]))
    return SourceMap(tuple(sorted(functions)), tuple(placed))
