# SPDX-License-Identifier: Apache-2.0
"""Object files through libbpf: opened, shaped before the load, loaded, and their final instructions read
back.

Only this module and `ring` call libbpf. It does CO-RE, maps, data sections and the linking of subprograms;
what it is about to give to the kernel (func_info, above all) is read in a load handler
(`libbpf_register_prog_handler`), because no function returns it afterwards, and the kernel's own copy lacks
the functions that the verifier removed.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_long, c_size_t, c_uint32, c_void_p
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import InvalidInput, Unsupported

from .bpf import BpfError, Command, Fd, ProgType, cpus_in_a_value

__all__ = [
    "BPF_F_XDP_HAS_FRAGS",
    "LoadFailed",
    "MergedBtf",
    "Object",
    "ObjectMap",
    "ObjectProgram",
    "kernel_types_missing",
    "merge_btf",
    "possible_cpus",
]

BPF_F_XDP_HAS_FRAGS = 1 << 5
ATTACH_TYPE_XDP = 37
ATTACH_TYPE_FENTRY = 24
MAP_TYPE_ARRAY = 2
LOG_STATISTICS = 4
LOG_INSTRUCTIONS = 1
_LOG_SMALL = 1 << 14
_LOG_LARGE = 1 << 24


class LoadFailed(BpfError):
    """libbpf or the kernel refused an object; ``program`` names the program that the verifier stopped at,
    if any.
    """

    def __init__(self, number: int, program: str, log: str, messages: str) -> None:
        super().__init__(number, Command.PROG_LOAD, log)
        self.program = program
        self.messages = messages


_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "bpf_object__open_mem": (c_void_p, c_void_p, c_size_t, c_void_p),
    "bpf_object__load": (c_int, c_void_p),
    "bpf_object__close": (None, c_void_p),
    "bpf_object__next_program": (c_void_p, c_void_p, c_void_p),
    "bpf_object__next_map": (c_void_p, c_void_p, c_void_p),
    "bpf_program__name": (c_char_p, c_void_p),
    "bpf_program__section_name": (c_char_p, c_void_p),
    "bpf_program__type": (c_int, c_void_p),
    "bpf_program__set_type": (c_int, c_void_p, c_int),
    "bpf_program__expected_attach_type": (c_int, c_void_p),
    "bpf_program__set_expected_attach_type": (c_int, c_void_p, c_int),
    "bpf_program__flags": (c_uint32, c_void_p),
    "bpf_program__set_flags": (c_int, c_void_p, c_uint32),
    "bpf_program__set_autoload": (c_int, c_void_p, ctypes.c_bool),
    "bpf_program__set_attach_target": (c_int, c_void_p, c_int, c_char_p),
    "bpf_program__set_log_level": (c_int, c_void_p, c_uint32),
    "bpf_program__set_log_buf": (c_int, c_void_p, c_void_p, c_size_t),
    "bpf_program__insns": (c_void_p, c_void_p),
    "bpf_program__insn_cnt": (c_size_t, c_void_p),
    "bpf_program__fd": (c_int, c_void_p),
    "bpf_map__name": (c_char_p, c_void_p),
    "bpf_map__fd": (c_int, c_void_p),
    "bpf_map__type": (c_int, c_void_p),
    "bpf_map__key_size": (c_uint32, c_void_p),
    "bpf_map__value_size": (c_uint32, c_void_p),
    "bpf_map__max_entries": (c_uint32, c_void_p),
    "bpf_map__set_max_entries": (c_int, c_void_p, c_uint32),
    "bpf_map__map_flags": (c_uint32, c_void_p),
    "bpf_map__pin_path": (c_char_p, c_void_p),
    "bpf_map__set_pin_path": (c_int, c_void_p, c_char_p),
    "bpf_map__set_autocreate": (c_int, c_void_p, ctypes.c_bool),
    "bpf_map__set_type": (c_int, c_void_p, c_int),
    "bpf_map__is_internal": (ctypes.c_bool, c_void_p),
    "bpf_map__initial_value": (c_void_p, c_void_p, POINTER(c_size_t)),
    "bpf_map__set_initial_value": (c_int, c_void_p, c_void_p, c_size_t),
    "bpf_map__reuse_fd": (c_int, c_void_p, c_int),
    "btf__load_from_kernel_by_id": (c_void_p, c_uint32),
    "btf__new": (c_void_p, c_void_p, c_uint32),
    "btf__new_empty": (c_void_p,),
    "btf__add_btf": (c_int, c_void_p, c_void_p),
    "btf__add_func": (c_int, c_void_p, c_char_p, c_int, c_int),
    "btf__raw_data": (c_void_p, c_void_p, POINTER(c_uint32)),
    "btf__free": (None, c_void_p),
    "libbpf_set_print": (c_void_p, c_void_p),
    "libbpf_register_prog_handler": (c_int, c_char_p, c_int, c_int, c_void_p),
    "libbpf_num_possible_cpus": (c_int,),
    "ring_buffer__new": (c_void_p, c_int, c_void_p, c_void_p, c_void_p),
    "ring_buffer__consume": (c_int, c_void_p),
    "ring_buffer__free": (None, c_void_p),
}


_PREPARE = CFUNCTYPE(c_int, c_void_p, POINTER(ctypes.c_ubyte), c_long)
_PRINT = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)


class _HandlerOptions(ctypes.Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("cookie", c_long),
        ("setup", c_void_p),
        ("prepare", _PREPARE),
        ("attach", c_void_p),
    )


class _OpenOptions(ctypes.Structure):
    """``struct bpf_object_open_opts`` as far as ``pin_root_path``; the name becomes a prefix of data maps'
    names.
    """

    _fields_ = (("sz", c_size_t), ("name", c_char_p), ("relaxed", ctypes.c_bool), ("pin_root", c_char_p))


class _Library:
    """libbpf.so.1 with typed functions; what its callbacks report is kept a thread."""

    def __init__(self) -> None:
        try:
            self._dll = ctypes.CDLL("libbpf.so.1", use_errno=True)
        except OSError as error:
            raise Unsupported(
                "libbpf can't be used", str(error), "Install libbpf 1.0 or newer (Debian: libbpf1)"
            ) from None
        for name, (result, *arguments) in _SIGNATURES.items():
            function = getattr(self._dll, name)
            function.restype, function.argtypes = result, arguments
        self.lock = threading.RLock()
        self.messages: list[str] = []
        self.func_info: dict[int, bytes] = {}
        self.line_info: dict[int, bytes] = {}
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (c_void_p, c_size_t, c_char_p, c_void_p)
        self._keep: list[Any] = [_PRINT(self._print), _PREPARE(self._prepare)]
        self._dll.libbpf_set_print(ctypes.cast(self._keep[0], c_void_p))
        options = _HandlerOptions(ctypes.sizeof(_HandlerOptions), 0, None, self._keep[1], None)
        self._keep.append(options)
        # Handlers are the process's: each says of its sections what libbpf itself says, so that others who
        # use libbpf in this process see no difference. None stands for sections that libbpf does not know.
        known = (ProgType.XDP, ATTACH_TYPE_XDP)
        for section, (kind, attach) in ((b"xdp", known), (b"xdp.frags", known), (None, (0, 0))):
            self._dll.libbpf_register_prog_handler(section, kind, attach, ctypes.byref(options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dll, name)

    def _print(self, level: int, form: bytes, arguments: int) -> int:
        if level <= 1:  # warnings and information; the rest is for libbpf's own developers
            room = ctypes.create_string_buffer(4096)
            self._vsnprintf(room, len(room), form, arguments)
            self.messages.append(room.value.decode(errors="replace"))
        return 0

    def _prepare(self, program: int, options: Any, _cookie: int) -> int:
        # struct bpf_prog_load_opts: func_info at 56, its count at 64, its record size at 68;
        # line_info likewise from 72 on (libbpf 1.0 on).
        raw = ctypes.string_at(options, 88)
        self.func_info[program] = _records(raw, 56, 8)
        self.line_info[program] = _records(raw, 72, 16)
        return 0


def _records(options: bytes, field: int, length: int) -> bytes:
    """The first ``length`` bytes of each record of a table: its address, count and record size at a field."""
    at, count, size = struct.unpack_from("<QII", options, field)
    if not at or not count:
        return b""
    table = ctypes.string_at(at, count * size)
    return b"".join(table[i * size : i * size + length] for i in range(count))


_opening = threading.Lock()


def library() -> Any:
    """libbpf, opened at the first use. Raises Unsupported if it is missing."""
    # `cache` alone lets two threads make two: libbpf would call back into the one that is thrown away.
    with _opening:
        return _opened()


@cache
def _opened() -> _Library:
    return _Library()


def possible_cpus() -> int:
    """CPUs that may ever come up: the elements of a per-CPU value. libbpf reads them from /sys; without that
    the kernel is asked by a map. Raises Unsupported.
    """
    found = int(library().libbpf_num_possible_cpus())
    if found > 0:
        return found
    try:
        return cpus_in_a_value()
    except BpfError as error:
        what = "The number of CPUs can't be known"
        raise Unsupported(what, "/sys is not mounted", advise(Do.MOUNT_SYSFS), detail=str(error)) from error


def kernel_types_missing() -> tuple[str, str | Advice]:
    """Why the kernel's own types can't be had, and what to do: not every machine has /sys mounted."""
    if not os.path.isdir("/sys/kernel"):
        return "the kernel's BTF can't be read, for /sys is not mounted", advise(Do.MOUNT_SYSFS)
    return "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)", ""


class ObjectMap(NamedTuple):
    """A map of an opened object; ``name`` is the object's: that of another map which it reuses, libbpf would
    take over.
    """

    handle: int
    name: str

    @property
    def fd(self) -> int:
        return int(library().bpf_map__fd(self.handle))

    @property
    def type(self) -> int:
        return int(library().bpf_map__type(self.handle))

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Type, key size, value size, entries, flags: what must agree for a map to be handed on."""
        lib = library()
        return (
            self.type,
            lib.bpf_map__key_size(self.handle),
            lib.bpf_map__value_size(self.handle),
            lib.bpf_map__max_entries(self.handle),
            lib.bpf_map__map_flags(self.handle),
        )

    @property
    def internal(self) -> bool:
        """Whether it is a data section (.data, .rodata, .bss, .kconfig)."""
        return bool(library().bpf_map__is_internal(self.handle))

    @property
    def pin_path(self) -> str | None:
        path = library().bpf_map__pin_path(self.handle)
        return os.fsdecode(path) if path else None

    def set_pin_path(self, path: str | None) -> None:
        library().bpf_map__set_pin_path(self.handle, os.fsencode(path) if path else None)

    def set_max_entries(self, entries: int) -> None:
        _check(library().bpf_map__set_max_entries(self.handle, entries), f"size map {self.name}")

    def initial_value(self) -> bytes:
        """A data section's bytes, before the load."""
        size = c_size_t()
        at = library().bpf_map__initial_value(self.handle, ctypes.byref(size))
        return ctypes.string_at(at, size.value) if at else b""

    def set_initial_value(self, data: bytes) -> None:
        _check(library().bpf_map__set_initial_value(self.handle, data, len(data)), f"fill {self.name}")

    def leave_out(self) -> None:
        """Don't create it; no loaded program may refer to it."""
        # libbpf fills program arrays after the load, also (1.1 does) those that were not to be made.
        _check(library().bpf_map__set_type(self.handle, MAP_TYPE_ARRAY), f"leave out map {self.name}")
        _check(library().bpf_map__set_autocreate(self.handle, False), f"leave out map {self.name}")

    def reuse(self, fd: Fd) -> None:
        """Use an existing map instead of a new one."""
        _check(library().bpf_map__reuse_fd(self.handle, fd.fileno()), f"reuse map {self.name}")


class ObjectProgram(NamedTuple):
    """A program of an opened object."""

    handle: int

    @property
    def name(self) -> str:
        return str(library().bpf_program__name(self.handle).decode())

    @property
    def section(self) -> str:
        return str(library().bpf_program__section_name(self.handle).decode())

    @property
    def fd(self) -> int:
        """The loaded program's descriptor, owned by the object."""
        return int(library().bpf_program__fd(self.handle))

    def instructions(self) -> bytes:
        """The final instructions, subprograms appended; map descriptors inside are this process's."""
        lib = library()
        at, count = lib.bpf_program__insns(self.handle), lib.bpf_program__insn_cnt(self.handle)
        return ctypes.string_at(at, count * 8)

    def func_info(self) -> tuple[tuple[int, int], ...]:
        """(instruction offset, BTF type id) of every function in `instructions`; () for an object without
        BTF.
        """
        return tuple(struct.iter_unpack("<II", library().func_info.get(self.handle, b"")))

    def line_info(self) -> tuple[tuple[int, int, int, int], ...]:
        """``struct bpf_line_info`` of the program, with strings of its object's BTF; () for an object without
        line information.
        """
        return tuple(struct.iter_unpack("<IIII", library().line_info.get(self.handle, b"")))

    def set_autoload(self, load: bool) -> None:
        library().bpf_program__set_autoload(self.handle, load)

    def as_xdp(self, frags: bool, *, attach_type: int = ATTACH_TYPE_XDP) -> None:
        """Load it as an XDP program."""
        lib = library()
        lib.bpf_program__set_type(self.handle, ProgType.XDP)
        lib.bpf_program__set_expected_attach_type(self.handle, attach_type)
        lib.bpf_program__set_flags(self.handle, BPF_F_XDP_HAS_FRAGS if frags else 0)

    def as_freplace(self, target: Fd, function: str) -> None:
        """Load it as a replacement of ``function`` of the loaded program ``target``."""
        lib = library()
        lib.bpf_program__set_type(self.handle, ProgType.EXT)
        lib.bpf_program__set_expected_attach_type(self.handle, 0)
        lib.bpf_program__set_flags(self.handle, 0)
        _check(
            lib.bpf_program__set_attach_target(self.handle, target.fileno(), function.encode()),
            f"aim at {function}",
        )

    def as_fentry(self, target: Fd, function: str) -> None:
        """Load it as a tracer of the calls of ``function`` of the loaded program ``target``."""
        lib = library()
        lib.bpf_program__set_type(self.handle, ProgType.TRACING)
        lib.bpf_program__set_expected_attach_type(self.handle, ATTACH_TYPE_FENTRY)
        self.as_fexit(target, function)

    def as_fexit(self, target: Fd, function: str) -> None:
        """Load it as a tracer of the returns of ``function`` of the loaded program ``target``."""
        lib = library()
        _check(
            lib.bpf_program__set_attach_target(self.handle, target.fileno(), function.encode()),
            f"aim at {function}",
        )


class Object:
    """An object file opened by libbpf, closed by hand or by ``with``; closing releases its descriptors."""

    def __init__(self, data: bytes, name: str = "object") -> None:
        """Open ``data``, an ELF file's bytes. Raises InvalidInput with libbpf's words."""
        self._lib = library()
        self.data = data
        self._logs: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._handle: int | None = None
        with self._lib.lock:
            self._lib.messages.clear()
            options = _OpenOptions(ctypes.sizeof(_OpenOptions), name.encode()[:15], False, None)
            self._handle = self._lib.bpf_object__open_mem(data, len(data), ctypes.byref(options))
            if not self._handle:
                raise InvalidInput(
                    f"{name} can't be opened as a BPF object",
                    os.strerror(ctypes.get_errno()),
                    detail="".join(self._lib.messages),
                )
        self._maps = tuple(self._read_maps())

    def programs(self) -> Iterator[ObjectProgram]:
        at = self._lib.bpf_object__next_program(self._handle, None)
        while at:
            yield ObjectProgram(at)
            at = self._lib.bpf_object__next_program(self._handle, at)

    def maps(self) -> Iterator[ObjectMap]:
        return iter(self._maps)

    def _read_maps(self) -> Iterator[ObjectMap]:
        at = self._lib.bpf_object__next_map(self._handle, None)
        while at:
            yield ObjectMap(at, self._lib.bpf_map__name(at).decode())
            at = self._lib.bpf_object__next_map(self._handle, at)

    def load(self, *, verbose: bool = False) -> None:
        """Create the maps and load the programs. Raises LoadFailed.

        The verifier's statistics are kept for `log`; ``verbose`` asks for its whole reasoning instead,
        which costs megabytes and is for a second try at an object that was refused.
        """
        size = _LOG_LARGE if verbose else _LOG_SMALL
        for program in self.programs():
            self._logs[program.handle] = log = ctypes.create_string_buffer(size)
            self._lib.bpf_program__set_log_buf(program.handle, log, size)
            self._lib.bpf_program__set_log_level(
                program.handle, LOG_STATISTICS | (LOG_INSTRUCTIONS if verbose else 0)
            )
        with self._lib.lock:
            self._lib.messages.clear()
            result = self._lib.bpf_object__load(self._handle)
            if result:
                # libbpf stops at the first program that fails: the last one with a log is the one.
                failed = [p for p in self.programs() if self.log(p) and p.fd < 0]
                raise LoadFailed(
                    -result,
                    failed[-1].name if failed else "",
                    self.log(failed[-1]) if failed else "",
                    "".join(self._lib.messages),
                )

    def log(self, program: ObjectProgram) -> str:
        """What the verifier said of a program at the last load."""
        log = self._logs.get(program.handle)
        return log.value.decode(errors="replace") if log else ""

    def close(self) -> None:
        if self._handle:
            for program in self.programs():
                self._lib.func_info.pop(program.handle, None)
                self._lib.line_info.pop(program.handle, None)
            handle, self._handle = self._handle, None
            self._lib.bpf_object__close(handle)

    def __enter__(self) -> Object:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()


class MergedBtf(NamedTuple):
    """BTF made of several: the bytes, what was added to each part's type ids, and the ids of the added
    functions. ``strings``: what was added to the offsets of each part's strings, if they came along:
    line_info refers to some that no type names.
    """

    data: bytes
    shifts: tuple[int, ...]
    functions: tuple[int, ...]
    strings: tuple[int, ...] = ()


FUNC_STATIC, FUNC_GLOBAL = 0, 1


def merge_btf(
    parts: list[bytes], functions: list[tuple[str, int, int]], *, strings: bool = False
) -> MergedBtf:
    """Append BTF blobs to one another (``btf__add_btf``) and add functions.

    ``functions`` are (name, linkage, id of a prototype in the merged BTF). With ``strings``, all strings of
    the parts come along. Raises InvalidInput.
    """
    lib = library()
    merged = lib.btf__new_empty()
    try:
        shifts = []
        for part in parts:
            one = lib.btf__new(part, len(part))
            if not one:
                raise InvalidInput("a component's BTF can't be read", os.strerror(ctypes.get_errno()))
            try:
                # Type ids of a part start at 1: what is added to them is one less than the id of its first
                # type.
                first = _check(lib.btf__add_btf(merged, one), "merge BTF")
                shifts.append(first - 1)
            finally:
                lib.btf__free(one)
        added = [
            _check(lib.btf__add_func(merged, name.encode(), linkage, proto), f"describe {name}")
            for name, linkage, proto in functions
        ]
        size = c_uint32()
        at = lib.btf__raw_data(merged, ctypes.byref(size))
        data = ctypes.string_at(at, size.value)
        data, places = _append_strings(data, parts) if strings else (data, ())
        return MergedBtf(data, tuple(shifts), tuple(added), places)
    finally:
        lib.btf__free(merged)


def _append_strings(merged: bytes, parts: list[bytes]) -> tuple[bytes, tuple[int, ...]]:
    """The merged BTF with the strings of all parts behind its own, which are its last section."""
    # struct btf_header: its length at 4, then offset and length of types and of strings.
    length, _, _, start, size = struct.unpack_from("<IIIII", merged, 4)
    tables, places, added = [merged[: length + start + size]], {}, 0
    for part in parts:
        if part not in places:
            part_length, _, _, part_start, part_size = struct.unpack_from("<IIIII", part, 4)
            places[part] = size + added
            tables.append(part[part_length + part_start : part_length + part_start + part_size])
            added += part_size
    data = bytearray(b"".join(tables))
    struct.pack_into("<I", data, 20, size + added)
    return bytes(data), tuple(places[part] for part in parts)


def _check(result: int, what: str) -> int:
    if result < 0:
        raise InvalidInput(f"libbpf could not {what}", os.strerror(-result))
    return result
