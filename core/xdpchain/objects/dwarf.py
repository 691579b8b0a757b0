# SPDX-License-Identifier: Apache-2.0
"""Read as much DWARF (versions 4 and 5) as it takes to find inlined calls. Pure.

pyelftools could, but trusts what it reads: a single LEB128 number of some megabytes keeps it busy for hours.
Here numbers, entries and tables are bounded, and whatever is damaged, compressed or unknown raises `NoDwarf`.

An object file is not linked yet. The values that its relocations add to are already in place (clang and gcc
write REL, and refer to sections), so the only thing to take from a relocation is an address's section.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from xdpchain.frozen import frozen

from .elf import Elf

__all__ = ["Address", "Dwarf", "Entry", "NoDwarf", "Unit"]

MOST_BYTES: Final = 16 << 20
"""Of .debug_info."""
MOST_ENTRIES: Final = 200_000
MOST_ABBREVIATIONS: Final = 10_000
MOST_ATTRIBUTES: Final = 200
MOST_FILES: Final = 10_000
MOST_RANGES: Final = 1_000
MOST_DEPTH: Final = 200
_COMPRESSED: Final = 0x800
_LONG: Final = 0xFFFFFFF0

COMPILE_UNIT, SUBPROGRAM, INLINED = 0x11, 0x2E, 0x1D
NAME, STMT_LIST, LOW_PC, HIGH_PC, ORIGIN, SPECIFICATION = 0x03, 0x10, 0x11, 0x12, 0x31, 0x47
RANGES, CALL_FILE, CALL_LINE = 0x55, 0x58, 0x59
STR_OFFSETS_BASE, ADDR_BASE, RNGLISTS_BASE = 0x72, 0x73, 0x74
_TAGS: Final = frozenset((COMPILE_UNIT, SUBPROGRAM, INLINED))

# Forms, by how much room their values take.
_FIXED: Final = {
    0x01: 8, 0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x0C: 1, 0x0E: 4, 0x10: 4, 0x11: 1, 0x12: 2, 0x13: 4,
    0x14: 8, 0x17: 4, 0x19: 0, 0x1C: 4, 0x1D: 4, 0x1E: 16, 0x1F: 4, 0x20: 8, 0x21: 0, 0x24: 8, 0x25: 1,
    0x26: 2, 0x27: 3, 0x28: 4, 0x29: 1, 0x2A: 2, 0x2B: 3, 0x2C: 4,
}  # fmt: skip
_LEB: Final = frozenset((0x0D, 0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23))
_BLOCKS: Final = {0x03: 2, 0x04: 4, 0x0A: 1}
_STRING, _BLOCK, _EXPRESSION = 0x08, 0x09, 0x18
_ADDR, _STRP, _LINE_STRP, _IMPLICIT, _RNGLISTX = 0x01, 0x0E, 0x1F, 0x21, 0x23
_STRX: Final = frozenset((0x1A, 0x25, 0x26, 0x27, 0x28))
_ADDRX: Final = frozenset((0x1B, 0x29, 0x2A, 0x2B, 0x2C))
_UNIT_REFERENCES: Final = frozenset((0x11, 0x12, 0x13, 0x14, 0x15))
_SECTION_REFERENCE: Final = 0x10


class NoDwarf(Exception):
    """There is none, or none that can be read."""


class Address(NamedTuple):
    """A place in code: section index, offset in bytes."""

    section: int
    offset: int


@frozen
class Entry:
    """A debugging information entry: its offset, tag, depth in the tree (the unit: 0), and its attributes as
    (form, value), where the value of a block is None.
    """

    at: int
    tag: int
    depth: int
    attributes: dict[int, tuple[int, int | str | None]]


class _Abbreviation(NamedTuple):
    tag: int
    children: bool
    attributes: tuple[tuple[int, int, int], ...]
    size: int | None
    """Bytes of an entry, if they are always as many."""


class _Reader:
    """Reads numbers and text at a position, within bounds."""

    def __init__(self, data: memoryview, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, size: int) -> memoryview:
        end = self.at + size
        if not 0 <= self.at <= end <= len(self.data):
            raise NoDwarf("it is cut off")
        self.at, taken = end, self.data[self.at : end]
        return taken

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), sys.byteorder)

    def leb(self, *, signed: bool = False) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.unsigned(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value - (1 << shift + 7) if signed and byte & 0x40 else value
        raise NoDwarf("a number is too long")

    def text(self) -> str:
        chunk = bytes(self.data[self.at : self.at + 4096])
        end = chunk.find(b"\0")
        if end < 0:
            raise NoDwarf("a name is too long")
        self.at += end + 1
        return chunk[:end].decode(errors="replace")


@dataclass(slots=True)
class Dwarf:
    """The DWARF of an object file. Everything raises `NoDwarf`."""

    elf: Elf
    _data: dict[str, memoryview] = field(default_factory=dict)
    _relocations: dict[str, dict[int, Address]] = field(default_factory=dict)
    _entries: int = 0

    def section(self, name: str) -> memoryview:
        if name not in self._data:
            found = self.elf.section(name)
            if found is None or found.flags & _COMPRESSED:
                raise NoDwarf(f"there is no {name}")
            self._data[name] = found.data
        return self._data[name]

    def address(self, name: str, at: int) -> Address:
        """The address in a section of debug information."""
        value = _Reader(self.section(name), at).unsigned(8)
        base = self._relocated(name).get(at)
        if base is None:
            raise NoDwarf("an address has no section")
        return Address(base.section, base.offset + value)

    def relocated(self, name: str, at: int) -> bool:
        """Whether an address there is one, and not an offset."""
        return at in self._relocated(name)

    def _relocated(self, name: str) -> dict[int, Address]:
        """What is added to the values of a section, by their offset."""
        if name not in self._relocations:
            found: dict[int, Address] = {}
            section = self.elf.section(name)
            for table in self.elf.sections:
                if section is None or table.type != "SHT_REL" or table.info != section.index:
                    continue
                whole = len(table.data) // 16 * 16
                for at, info in struct.iter_unpack("=QQ", table.data[:whole]):
                    if info >> 32 < len(self.elf.symbols):
                        symbol = self.elf.symbols[info >> 32]
                        found[at] = Address(symbol.section, symbol.value)
            self._relocations[name] = found
        return self._relocations[name]

    def units(self) -> Iterator[Unit]:
        """The compilation units."""
        info = self.section(".debug_info")
        if len(info) > MOST_BYTES:
            raise NoDwarf("it is too large")
        at = 0
        while at < len(info):
            unit = Unit.read(self, at)
            yield unit
            at = unit.end

    def spend(self) -> None:
        """Account for an entry."""
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise NoDwarf("it has too many entries")


@dataclass(slots=True)
class Unit:
    """A compilation unit, from ``start`` to ``end`` in .debug_info."""

    dwarf: Dwarf
    start: int
    end: int
    version: int
    _first: int
    _abbreviations: dict[int, _Abbreviation]
    _root: Entry | None = None

    @classmethod
    def read(cls, dwarf: Dwarf, start: int) -> Unit:
        reader = _Reader(dwarf.section(".debug_info"), start)
        length = reader.unsigned(4)
        end, version = reader.at + length, reader.unsigned(2)
        if length >= _LONG or end > len(reader.data) or version not in (4, 5):
            raise NoDwarf("a unit has an unknown header")
        if version == 5:
            kind, _, abbreviations = reader.unsigned(1), reader.unsigned(1), reader.unsigned(4)
            reader.take({1: 0, 3: 0, 4: 8, 5: 8}.get(kind, 12))  # compile, partial, skeleton, split; type
        else:
            abbreviations, _ = reader.unsigned(4), reader.unsigned(1)
        table = _abbreviations(dwarf.section(".debug_abbrev"), abbreviations)
        return cls(dwarf, start, end, version, reader.at, table)

    def entries(self) -> Iterator[Entry]:
        """The entries that matter here, in order: the unit, functions, inlined calls."""
        reader, depth = _Reader(self.dwarf.section(".debug_info")[: self.end], self._first), 0
        while reader.at < self.end:
            at, code = reader.at, reader.leb()
            if code == 0:
                depth -= 1
                if depth <= 0:
                    return
                continue
            self.dwarf.spend()
            shape = self._abbreviations.get(code)
            if shape is None or depth > MOST_DEPTH:
                raise NoDwarf("an entry has no shape")
            if shape.tag in _TAGS:
                found = {name: self._value(reader, form, extra) for name, form, extra in shape.attributes}
                entry = Entry(at, shape.tag, depth, found)
                if self._root is None:
                    self._root = entry
                yield entry
            elif shape.size is not None:
                reader.take(shape.size)
            else:
                for _, form, extra in shape.attributes:
                    self._value(reader, form, extra)
            depth += shape.children

    @staticmethod
    def _value(reader: _Reader, form: int, extra: int) -> tuple[int, int | str | None]:
        at, value = reader.at, None
        if form == _IMPLICIT:
            return form, extra
        if form == _ADDR:
            reader.take(8)
            return form, at  # its relocation says the section
        if form in _FIXED:
            return form, reader.unsigned(_FIXED[form])
        if form in _LEB:
            return form, reader.leb(signed=form == 0x0D)
        if form == _STRING:
            return form, reader.text()
        if form in (_BLOCK, _EXPRESSION):
            reader.take(reader.leb())
        elif form in _BLOCKS:
            reader.take(reader.unsigned(_BLOCKS[form]))
        else:
            raise NoDwarf(f"form {form:#x} is unknown")
        return form, value

    def number(self, entry: Entry, name: int) -> int | None:
        value = entry.attributes.get(name, (0, None))[1]
        return value if isinstance(value, int) else None

    def text(self, entry: Entry, name: int) -> str:
        """A name; empty if the entry has none."""
        form, value = entry.attributes.get(name, (0, None))
        if isinstance(value, str):
            return value
        return "" if value is None else self._string(form, value)

    def _string(self, form: int, value: int) -> str:
        if form in _STRX:
            offsets = self._base(STR_OFFSETS_BASE, 8)
            value = _Reader(self.dwarf.section(".debug_str_offsets"), offsets + 4 * value).unsigned(4)
        elif form not in (_STRP, _LINE_STRP):
            raise NoDwarf("a name has an unknown form")
        where = ".debug_line_str" if form == _LINE_STRP else ".debug_str"
        return _Reader(self.dwarf.section(where), value).text()

    def reference(self, entry: Entry, name: int) -> int | None:
        """The offset of the entry that it refers to, in .debug_info."""
        form, value = entry.attributes.get(name, (0, None))
        if form in _UNIT_REFERENCES and isinstance(value, int):
            return self.start + value
        return value if form == _SECTION_REFERENCE and isinstance(value, int) else None

    def ranges(self, entry: Entry) -> list[tuple[Address, Address]]:
        """The code that belongs to it: first address, and the one behind the last."""
        if RANGES in entry.attributes:
            return self._rnglist(entry) if self.version == 5 else self._old_ranges(entry)
        low = self._address(entry, LOW_PC)
        form, size = entry.attributes.get(HIGH_PC, (0, None))
        if low is None or not isinstance(size, int) or form == _ADDR or form in _ADDRX:
            return []
        return [(low, Address(low.section, low.offset + size))]

    def files(self) -> list[str]:
        """The files' names by number."""
        if self._root is None or (at := self.number(self._root, STMT_LIST)) is None:
            return []
        reader = _Reader(self.dwarf.section(".debug_line"), at)
        length, version = reader.unsigned(4), reader.unsigned(2)
        if length >= _LONG or version not in (2, 3, 4, 5):
            raise NoDwarf("a line table has an unknown header")
        reader.take((2 if version == 5 else 0) + 4 + (5 if version >= 4 else 4))
        reader.take(max(0, reader.unsigned(1) - 1))
        if version == 5:
            self._paths(reader)
            return self._paths(reader)
        for _ in range(MOST_FILES):
            if not reader.text():
                break
        files = [""]
        while len(files) <= MOST_FILES and (name := reader.text()):
            files.append(name)
            for _ in range(3):
                reader.leb()
        return files

    def _paths(self, reader: _Reader) -> list[str]:
        formats = [(reader.leb(), reader.leb()) for _ in range(reader.unsigned(1))]
        count = reader.leb()
        if count > MOST_FILES:
            raise NoDwarf("it has too many files")
        names = []
        for _ in range(count):
            name = ""
            for kind, form in formats:
                value = self._value(reader, form, 0)[1]
                if kind == 1:
                    name = value if isinstance(value, str) else self._string(form, value or 0)
            names.append(name)
        return names

    def _base(self, name: int, default: int) -> int:
        value = self.number(self._root, name) if self._root is not None else None
        return default if value is None else value

    def _address(self, entry: Entry, name: int) -> Address | None:
        form, value = entry.attributes.get(name, (0, None))
        if not isinstance(value, int):
            return None
        if form in _ADDRX:
            return self._indexed(value)
        if form != _ADDR or not self.dwarf.relocated(".debug_info", value):
            return None
        return self.dwarf.address(".debug_info", value)

    def _indexed(self, index: int) -> Address:
        return self.dwarf.address(".debug_addr", self._base(ADDR_BASE, 8) + 8 * index)

    def _low(self) -> Address | None:
        return self._address(self._root, LOW_PC) if self._root is not None else None

    def _rnglist(self, entry: Entry) -> list[tuple[Address, Address]]:
        form, value = entry.attributes[RANGES]
        if not isinstance(value, int):
            return []
        lists = self.dwarf.section(".debug_rnglists")
        if form == _RNGLISTX:
            table = self._base(RNGLISTS_BASE, 12)
            value = table + _Reader(lists, table + 4 * value).unsigned(4)
        reader, base = _Reader(lists, value), self._low()
        found: list[tuple[Address, Address]] = []
        for _ in range(MOST_RANGES):
            kind, start = reader.unsigned(1), base
            if kind == 0:
                return found
            if kind == 1:
                base = self._indexed(reader.leb())
                continue
            if kind == 2:
                start, stop = self._indexed(reader.leb()), self._indexed(reader.leb())
                size = stop.offset - start.offset
            elif kind == 3:
                start, size = self._indexed(reader.leb()), reader.leb()
            elif kind == 4:
                first, last = reader.leb(), reader.leb()
                start = Address(base.section, base.offset + first) if base is not None else None
                size = last - first
            elif kind == 5:
                base = self.dwarf.address(".debug_rnglists", reader.at)
                reader.take(8)
                continue
            elif kind == 7:
                start = self.dwarf.address(".debug_rnglists", reader.at)
                reader.take(8)
                size = reader.leb()
            else:
                raise NoDwarf("a range has an unknown form")
            if start is not None:
                found.append((start, Address(start.section, start.offset + size)))
        raise NoDwarf("a list of ranges is too long")

    def _old_ranges(self, entry: Entry) -> list[tuple[Address, Address]]:
        value, base = self.number(entry, RANGES), self._low()
        if value is None:
            return []
        name = ".debug_ranges"
        reader = _Reader(self.dwarf.section(name), value)
        found: list[tuple[Address, Address]] = []
        for _ in range(MOST_RANGES):
            at = reader.at
            first, last = reader.unsigned(8), reader.unsigned(8)
            if self.dwarf.relocated(name, at):
                found.append((self.dwarf.address(name, at), self.dwarf.address(name, at + 8)))
            elif first == last == 0:
                return found
            elif base is not None:
                found.append(
                    (
                        Address(base.section, base.offset + first),
                        Address(base.section, base.offset + last),
                    )
                )
        raise NoDwarf("a list of ranges is too long")


def _abbreviations(data: memoryview, at: int) -> dict[int, _Abbreviation]:
    reader = _Reader(data, at)
    table: dict[int, _Abbreviation] = {}
    while len(table) <= MOST_ABBREVIATIONS and (code := reader.leb()):
        tag, children = reader.leb(), bool(reader.unsigned(1))
        attributes: list[tuple[int, int, int]] = []
        while len(attributes) < MOST_ATTRIBUTES:
            name, form = reader.leb(), reader.leb()
            if not name and not form:
                break
            attributes.append((name, form, reader.leb(signed=True) if form == _IMPLICIT else 0))
        fixed = [_FIXED.get(form) for _, form, _ in attributes]
        size = sum(size for size in fixed if size is not None) if None not in fixed else None
        table[code] = _Abbreviation(tag, children, tuple(attributes), size)
    return table
