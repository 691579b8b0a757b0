# SPDX-License-Identifier: Apache-2.0
"""Read an object file with BPF programs before anything is loaded.

Agrees with libbpf (1.0 and later), and rejects early what libbpf would, with an explanation. Pure except for
``ObjectFile.open()``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import field
from functools import lru_cache, partial
from typing import Final, TypeVar

from xdpchain.errors import InvalidInput, NotFound, PermissionDenied
from xdpchain.frozen import frozen
from xdpchain.model.runconfig import RunConfig

from . import btf_types as types
from .btf import Btf, BtfError
from .btf_types import Kind
from .elf import MAX_FILE, Elf, bad_object
from .objmaps import KCONFIG, MapSpec, Variable, read_maps, read_variables
from .objrefs import INSN_SIZE, ObjectFunction, References, reached_programs, read_functions
from .runconfig_btf import read_run_configs
from .section_names import UNKNOWN, XDP, classify

__all__ = ["MapSpec", "ObjectFile", "ProgramSpec", "Variable"]

T = TypeVar("T")

_TEXT: Final = ".text"
_CONTEXT: Final = "xdp_md"


MAX_BTF: Final = 4 << 20
MAX_BTF_TYPES: Final = 1 << 16
"""Most types in an object file: checking takes about 30 µs each."""


@frozen
class ProgramSpec:
    """A program of an object file.

    ``section``: libbpf's name of it (without the ``?`` of those loaded only on request, see ``autoload``).
    ``kind``, ``attach``, ``frags``: derived from the section's name, see ``section_names.SectionKind``; if
    kind is empty the loader must set the type. ``takes_xdp_md``: its BTF signature is that of an XDP program.
    ``insn_count``: its instructions, without called functions. ``maps``: names of the maps that it or called
    functions refer to; for global variables, their section's name. ``callees``: other programs of the object
    that it can reach by tail calls through initialized program arrays.
    """

    name: str
    section: str
    kind: str
    attach: str
    frags: bool
    autoload: bool
    takes_xdp_md: bool
    insn_count: int
    run_config: RunConfig
    has_run_config: bool
    maps: tuple[str, ...]
    callees: tuple[str, ...]


@frozen
class ObjectFile:
    """An object file: its bytes, decoded. ``sha256`` is the hexadecimal hash of the whole file.

    ``path`` is where it was read from, None for other bytes; ``licence`` is empty if it states none.
    ``btf_flaw``: what is wrong with its BTF, if anything; then ``btf`` is None, and like libbpf we continue
    without types.
    """

    data: bytes = field(repr=False)
    path: str | None
    sha256: str
    licence: str
    btf: Btf | None = field(repr=False, compare=False)
    programs: tuple[ProgramSpec, ...]
    maps: tuple[MapSpec, ...]
    variables: tuple[Variable, ...]
    btf_flaw: str = ""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ObjectFile:
        """Read the file at ``path``. Raises NotFound, PermissionDenied, or InvalidInput like ``parse()``."""
        text = os.fspath(path)
        return cls.parse(_read_file(text), text)

    @classmethod
    def parse(cls, data: bytes, path: str | None = None) -> ObjectFile:
        """Read an object file from its bytes.

        Raises InvalidInput, which names the path: not an ELF file, damaged, for another machine or byte
        order, or something that libbpf does not load (static programs, legacy maps, maps without BTF).
        """
        try:
            return _parse(bytes(data), path)
        except InvalidInput as error:
            if path is None:
                raise
            raise InvalidInput(
                f"{_shown(path)} can't be used", _why(error), error.todo, detail=error.detail
            ) from error

    @property
    def has_btf(self) -> bool:
        """Whether it has type information that the kernel accepts."""
        return self.btf is not None

    @property
    def plain(self) -> bool:
        """Whether it has only XDP programs, with types that the kernel accepts: how libbpf treats anything
        else is not modeled here.
        """
        return not self.btf_flaw and all(
            program_spec.kind == XDP or (program_spec.kind == UNKNOWN and program_spec.takes_xdp_md)
            for program_spec in self.programs
        )

    @property
    def object_name(self) -> str:
        """libbpf's name of the object: its file name up to the first dot."""
        return os.path.basename(self.path).partition(".")[0] if self.path else ""

    def xdp_programs(self) -> tuple[ProgramSpec, ...]:
        """The programs that can be attached to an interface: those in ``xdp`` sections, and those in sections
        without a known meaning whose signature is XDP's. Programs for devmaps and cpumaps are excluded.
        """
        return tuple(
            program_spec
            for program_spec in self.programs
            if (program_spec.kind == XDP and program_spec.attach == "xdp")
            or (program_spec.kind == UNKNOWN and program_spec.takes_xdp_md)
        )

    def program(self, name_or_section: str) -> ProgramSpec:
        """The program with this name, or else the only one in the section with this name.

        Raises NotFound, which lists the programs; InvalidInput if the section has several.
        """
        for program_spec in self.programs:
            if program_spec.name == name_or_section:
                return program_spec
        inside = [program_spec for program_spec in self.programs if program_spec.section == name_or_section]
        if len(inside) == 1:
            return inside[0]
        whose = _shown(self.path) if self.path else "The object file"
        if inside:
            raise InvalidInput(
                f"{whose} has {len(inside)} programs in section {name_or_section!r}",
                todo="Choose one by its name: " + ", ".join(program_spec.name for program_spec in inside),
            )
        there = ", ".join(
            f"{program_spec.name} (section {program_spec.section})" for program_spec in self.programs
        )
        raise NotFound(
            f"{whose} has no program or section {name_or_section!r}",
            todo=f"It has {there}" if there else "It has no programs at all",
        )

    def map(self, name: str) -> MapSpec:
        """The map with this name. Raises NotFound."""
        for bpf_map in self.maps:
            if bpf_map.name == name:
                return bpf_map
        there = ", ".join(bpf_map.name for bpf_map in self.maps)
        raise NotFound(
            f"There is no map {name!r}", todo=f"There are {there}" if there else "There are no maps"
        )


def _read_file(path: str) -> bytes:
    shown = _shown(path)
    try:
        # Non-blocking: opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                raise InvalidInput(f"{shown} can't be used", f"it is {kind}", "Give an object file")
            return file.read(MAX_FILE + 1)  # one more byte, to detect files that are too large
    except OSError as error:
        why = os.strerror(error.errno or errno.EIO)
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PermissionDenied(
                f"{shown} can't be read", why, "Check the permissions of the file"
            ) from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(f"{shown} can't be read", why, "Check the path") from error
        raise InvalidInput(f"{shown} can't be read", why, "Check the path") from error
    except ValueError as error:  # an embedded zero byte
        raise InvalidInput(f"{shown} is not a path", str(error), "Check the path") from error


def _shown(path: str) -> str:
    """A path for display: names can contain anything."""
    return path if path.isprintable() else repr(path)


def _why(error: InvalidInput) -> str:
    """The reason, preceded by what failed if that is specific."""
    generic = bad_object("").what
    return error.why if error.what == generic else f"{error.what}: {error.why}"


def _large_btf(has: str, most: str) -> InvalidInput:
    return bad_object(f"its BTF has {has}; at most {most} are read")


@lru_cache(maxsize=16)
def _parse(data: bytes, path: str | None) -> ObjectFile:
    elf = Elf.parse(data)
    btf, flaw = _types(elf)
    functions = read_functions(elf)
    maps = read_maps(elf, btf)
    checked = None if flaw else btf  # code that follows type references must not meet bad ones
    return ObjectFile(
        data,
        path,
        hashlib.sha256(data).hexdigest(),
        _licence(elf),
        checked,
        _programs(elf, btf, functions, maps, lenient=bool(flaw)),
        maps,
        read_variables(elf, checked),
        flaw,
    )


def _types(elf: Elf) -> tuple[Btf | None, str]:
    """The object's BTF as far as it can be read, and what is wrong with it. libbpf requires BTF for maps in
    ``.maps``; otherwise it warns and continues without (bpf_object__init_btf). Examples are C++ objects,
    whose members the kernel refuses, and those of GCC 12, whose chars it refuses.
    """
    section = elf.section(".BTF")
    if section is None:
        return None, ""
    if len(section.data) > MAX_BTF:
        raise _large_btf(f"{len(section.data)} bytes", f"{MAX_BTF} bytes")
    try:
        btf = Btf.parse(section.data)
    except BtfError as error:
        if elf.section(".maps") is not None:
            raise
        return None, error.why
    if btf.type_count > MAX_BTF_TYPES:
        raise _large_btf(f"{btf.type_count} types", f"{MAX_BTF_TYPES} types")
    try:
        btf.check()
    except BtfError as error:
        return btf, error.why
    return btf, ""


def _unless_flawed(read: Callable[[], T], default: T, *, lenient: bool) -> T:
    """The result of ``read``; with flawed BTF, ``default`` if it can't be read."""
    try:
        return read()
    except BtfError:
        if lenient:
            return default
        raise


def _licence(elf: Elf) -> str:
    section = elf.section("license")
    if section is None:
        return ""
    text = bytes(section.data[:64]).partition(b"\0")[0].decode("latin-1")
    if not text.isprintable():
        raise bad_object("its licence is not text", detail=repr(text))
    return text


def _programs(
    elf: Elf,
    btf: Btf | None,
    functions: tuple[ObjectFunction, ...],
    maps: tuple[MapSpec, ...],
    *,
    lenient: bool,
) -> tuple[ProgramSpec, ...]:
    entries = tuple(function for function in functions if _is_entry(function, len(functions)))
    for entry in entries:
        if entry.local:
            raise bad_object(
                f"its program {entry.name!r} is static; libbpf only accepts global programs",
                "Remove the keyword static, or its section",
            )
    specs = {bpf_map.name: bpf_map for bpf_map in maps}
    references = References(elf, functions, specs, _configuration(btf))
    maps_of = {entry.name: references.maps(entry) for entry in entries}
    for spec in maps:
        missing = [name for _, name in spec.values if name not in (specs if spec.inner else maps_of)]
        if missing:
            raise bad_object(
                f"its map {spec.name!r} is initialised with {missing[0]!r}, which it does not have"
            )
    configs: dict[str, RunConfig] = {}
    if btf is not None:
        configs = _unless_flawed(partial(read_run_configs, btf), configs, lenient=lenient)
    programs = []
    for entry in entries:
        says = classify(entry.section_name)
        programs.append(
            ProgramSpec(
                entry.name,
                entry.section_name.removeprefix("?"),
                says.kind,
                says.attach,
                says.frags,
                says.autoload,
                btf is not None
                and _unless_flawed(partial(_takes_xdp_md, btf, entry.name), False, lenient=lenient),
                entry.size // INSN_SIZE,
                configs.get(entry.name, RunConfig()),
                entry.name in configs,
                maps_of[entry.name],
                reached_programs(entry.name, maps_of, specs),
            )
        )
    return tuple(programs)


def _is_entry(function: ObjectFunction, count: int) -> bool:
    """Functions in .text are subprograms, unless it is the object's only function."""
    return function.section_name != _TEXT or count == 1


def _configuration(btf: Btf | None) -> frozenset[str]:
    """The names of the kernel configuration values that the object uses."""
    datasec = btf.datasec(KCONFIG) if btf is not None else None
    if btf is None or datasec is None:
        return frozenset()
    return frozenset(variable.name for variable, _ in btf.variables(datasec))


def _takes_xdp_md(btf: Btf, function: str) -> bool:
    func = btf.find(function, Kind.FUNC)
    prototype = btf.type(func.prototype) if isinstance(func, types.Func) else None
    if not isinstance(prototype, types.FuncProto) or len(prototype.parameters) != 1:
        return False
    pointer = btf.resolve(prototype.parameters[0].type_id)
    if not isinstance(pointer, types.Pointer):
        return False
    target = btf.resolve(pointer.target)
    return isinstance(target, types.Struct | types.Forward) and target.name == _CONTEXT
