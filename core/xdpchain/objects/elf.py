# SPDX-License-Identifier: Apache-2.0
"""An ELF relocatable file as frozen values. The only module that imports pyelftools.

pyelftools trusts its input: a malformed file can make it raise nearly any exception, or read for hours (a
table of 2**64 entries, an unterminated name). So it reads through a stream with a limited number of reads,
whatever it raises becomes InvalidInput, and section contents are sliced from the file here, within bounds.
"""

from __future__ import annotations

import io
import sys
from bisect import bisect_left
from dataclasses import field
from functools import lru_cache
from typing import Any, Final

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

__all__ = ["MAX_FILE", "SHF_EXECINSTR", "Elf", "Relocation", "Section", "Symbol", "bad_object", "readable"]

MAX_FILE: Final = 64 << 20
"""Largest file that is read, in bytes. Real BPF objects with debug information have a few megabytes."""
READS: Final = 500_000
"""Most reads: a symbol takes 7, a relocation 2, a section 12."""
READ_BYTES: Final = 4 * MAX_FILE

EM_BPF: Final = 247
SHF_EXECINSTR: Final = 4
_HEADER: Final = 64
_ENCODINGS: Final = {1: "little", 2: "big"}
_BUILD: Final = "Build it with clang -O2 -g -target bpf -c"
_TYPES: Final = {"STT_NOTYPE": "", "STT_OBJECT": "object", "STT_FUNC": "func", "STT_SECTION": "section"}
_READ: Final = frozenset(("SHT_NULL", "SHT_PROGBITS", "SHT_NOBITS", "SHT_SYMTAB", "SHT_STRTAB", "SHT_REL"))
"""The section types that matter. Others keep their index but are not read: pyelftools would parse some."""


def bad_object(why: str, todo: str = _BUILD, *, detail: str = "") -> InvalidInput:
    """The error for a file that is not a usable BPF object."""
    return InvalidInput("The object file can't be used", why, todo, detail=detail)


def readable(text: str, what: str) -> str:
    """``text`` itself. Raises InvalidInput for characters unfit for names, such as terminal controls."""
    if not text:
        raise bad_object(f"{what} has no name")
    if not text.isprintable():
        raise bad_object(f"the name of {what} has unprintable characters", detail=repr(text))
    return text


@frozen
class Section:
    """A section. ``size`` is its size in memory; ``data`` is empty if the file has none (SHT_NOBITS)."""

    index: int
    name: str
    type: str
    flags: int
    size: int
    link: int
    info: int
    data: memoryview = field(repr=False, compare=False)


@frozen
class Symbol:
    """A symbol: ``value`` is an offset into section number ``section``, which is -1 for undefined and special
    symbols.

    ``type`` is func, object, section or empty; ``local``: not visible outside its file.
    """

    name: str
    type: str
    local: bool
    value: int
    size: int
    section: int


@frozen
class Relocation:
    """A reference to ``symbol`` at ``offset`` in the relocated section."""

    offset: int
    symbol: Symbol


@frozen
class Elf:
    """Sections, symbols, and the relocations of code and map definitions, of a BPF object.

    ``relocations``: by index of the relocated section, sorted by offset. ``globals``: the externally visible
    symbols, by section index and name.
    """

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    relocations: dict[int, tuple[Relocation, ...]]
    globals: dict[tuple[int, str], Symbol]

    @classmethod
    def parse(cls, data: bytes) -> Elf:
        """Read a relocatable ELF file for BPF in this machine's byte order. Raises InvalidInput."""
        return _parsed(bytes(data))

    def section(self, name: str) -> Section | None:
        """The first section with this name."""
        return next((section for section in self.sections if section.name == name), None)

    def relocations_within(self, section: int, start: int, end: int) -> tuple[Relocation, ...]:
        """The relocations from ``start`` to ``end`` (bytes) in section number ``section``."""
        table = self.relocations.get(section, ())
        first = bisect_left(table, start, key=lambda relocation: relocation.offset)
        return table[first : bisect_left(table, end, first, key=lambda relocation: relocation.offset)]


@lru_cache(maxsize=16)
def _parsed(data: bytes) -> Elf:
    """Cached: an object is read for programs, variables, effects and redirects, and used in many chains."""
    _check_header(data)
    # Imported late: it takes 30 ms, and half of this module's users read no file.
    from elftools.elf.elffile import ELFFile

    try:
        return _read(ELFFile(_MeteredStream(data)), data)
    except InvalidInput:
        raise
    except _Exhausted:
        raise bad_object("its tables claim more entries than an object file can have") from None
    except Exception as error:  # see the module's docstring
        raise bad_object("it is damaged", detail=f"{type(error).__name__}: {error}") from error


class _Exhausted(Exception):
    """The stream's allowance is used up."""


class _MeteredStream(io.BytesIO):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = READS
        self._bytes = READ_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self._reads -= 1
        self._bytes -= len(chunk)
        if self._reads < 0 or self._bytes < 0:
            raise _Exhausted
        return chunk


def _check_header(data: bytes) -> None:
    """Errors that deserve a specific explanation. Offsets are those of Elf64_Ehdr."""
    if not data:
        raise bad_object("it is empty")
    if len(data) > MAX_FILE:
        raise bad_object(f"it has {len(data)} bytes; at most {MAX_FILE} are read", "Strip debug information")
    if data[:4] != b"\x7fELF":
        source = data[:64].lstrip()[:2] in (b"//", b"/*", b"#i")
        raise bad_object("it is C source, not an object file" if source else "it is not an ELF file")
    if len(data) < _HEADER:
        raise bad_object("it is cut off within its header")
    if data[4] != 2:
        raise bad_object("it is not a 64-bit ELF file")
    order = _ENCODINGS.get(data[5])
    if order != sys.byteorder:
        suffix = "el" if sys.byteorder == "little" else "eb"
        raise bad_object(
            f"it is for {order or 'an unknown'}-endian machines; this one is {sys.byteorder}-endian",
            f"Build it with clang -target bpf{suffix}",
        )
    machine, kind_of_file = (int.from_bytes(data[at : at + 2], sys.byteorder) for at in (18, 16))
    if machine != EM_BPF:
        raise bad_object(f"it is built for another machine (ELF machine {machine}), not for BPF")
    if kind_of_file != 1:
        raise bad_object("it is not a relocatable object file", "Give the output of clang -c")
    entry_size, count = (int.from_bytes(data[at : at + 2], sys.byteorder) for at in (58, 60))
    table = int.from_bytes(data[40:48], sys.byteorder)
    if not table:
        raise bad_object("it has no sections")
    if entry_size != 64 or table + entry_size * max(count, 1) > len(data):
        raise bad_object("it is cut off: its section table lies outside it")


def _read(file: Any, data: bytes) -> Elf:
    view = memoryview(data)
    sections: list[Section] = []
    symtab: Any = None
    relocated: dict[int, list[Any]] = {}
    for index in range(file.num_sections()):
        header = file._get_section_header(index)  # no public way to the type alone
        if header["sh_type"] not in _READ:
            sections.append(Section(index, "", str(header["sh_type"]), 0, 0, 0, 0, view[:0]))
            continue
        raw_section = file.get_section(index)
        start, size = raw_section["sh_offset"], raw_section["sh_size"]
        if raw_section["sh_type"] in ("SHT_NOBITS", "SHT_NULL"):
            content = view[:0]
        elif start + size > len(data):
            raise bad_object(f"it is cut off: its section {raw_section.name!r} lies outside it")
        else:
            content = view[start : start + size]
        sections.append(
            Section(
                index,
                raw_section.name,
                raw_section["sh_type"],
                raw_section["sh_flags"],
                size,
                raw_section["sh_link"],
                raw_section["sh_info"],
                content,
            )
        )
        if raw_section["sh_type"] == "SHT_SYMTAB":
            if symtab is not None:
                raise bad_object("it has two symbol tables")
            symtab = raw_section
        elif raw_section["sh_type"] == "SHT_REL":
            relocated.setdefault(raw_section["sh_info"], []).append(raw_section)
    if not sections:
        raise bad_object("it has no sections")
    symbols: tuple[Symbol, ...] = ()
    if symtab is not None:
        symbols = tuple(
            _symbol(symtab.get_symbol(index), len(sections)) for index in range(symtab.num_symbols())
        )
    visible = {(symbol.section, symbol.name): symbol for symbol in symbols if not symbol.local}
    return Elf(tuple(sections), symbols, _relocations(relocated, sections, symbols), visible)


def _symbol(raw: Any, section_count: int) -> Symbol:
    where = raw["st_shndx"]  # a name for special ones, such as SHN_UNDEF
    return Symbol(
        raw.name,
        _TYPES.get(raw["st_info"]["type"], "other"),
        raw["st_info"]["bind"] == "STB_LOCAL",
        raw["st_value"],
        raw["st_size"],
        where if isinstance(where, int) and where < section_count else -1,
    )


def _relocations(
    tables: dict[int, list[Any]], sections: list[Section], symbols: tuple[Symbol, ...]
) -> dict[int, tuple[Relocation, ...]]:
    """Relocations of code and map definitions only, by offset: debug information has thousands."""
    relocations: dict[int, tuple[Relocation, ...]] = {}
    for index, raw_tables in tables.items():
        if not 0 < index < len(sections):
            raise bad_object(f"it relocates section {index}, which it does not have")
        if not (sections[index].flags & SHF_EXECINSTR or sections[index].name == ".maps"):
            continue
        entries = []
        for table in raw_tables:
            for raw in table.iter_relocations():
                symbol_index = raw["r_info_sym"]
                if symbol_index >= len(symbols) or raw["r_offset"] >= sections[index].size:
                    raise bad_object(f"a relocation of its section {sections[index].name!r} has no target")
                entries.append(Relocation(raw["r_offset"], symbols[symbol_index]))
        relocations[index] = tuple(sorted(entries, key=lambda relocation: relocation.offset))
    return relocations
