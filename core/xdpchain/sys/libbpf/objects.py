# SPDX-License-Identifier: Apache-2.0
"""Open object files with libbpf, configure and load them, and read back their final instructions.

libbpf handles CO-RE, maps, data sections and the linking of subprograms. What it passes to the kernel
(func_info above all) is captured in a load handler (`libbpf_register_prog_handler`), since no function
returns it later, and the kernel's copy lacks functions that the verifier removed.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from ctypes import c_size_t
from typing import NamedTuple

from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput
from xdpchain.sys.bpf import BpfError, Command, Fd, ProgType

from .shared_library import ATTACH_TYPE_XDP, OpenOptions, check, library

__all__ = [
    "ATTACH_TYPE_FENTRY",
    "BPF_F_XDP_DEV_BOUND_ONLY",
    "BPF_F_XDP_HAS_FRAGS",
    "LoadFailed",
    "Object",
    "ObjectMap",
    "ObjectProgram",
]

BPF_F_XDP_HAS_FRAGS = 1 << 5
BPF_F_XDP_DEV_BOUND_ONLY = 1 << 6
ATTACH_TYPE_FENTRY = 24
MAP_TYPE_ARRAY = 2
LOG_STATISTICS = 4
LOG_INSTRUCTIONS = 1
_LOG_SMALL = 1 << 14
_LOG_LARGE = 1 << 24


class LoadFailed(BpfError):
    """libbpf or the kernel refused an object; ``program``: the one that the verifier rejected, if any."""

    def __init__(self, code: int, program: str, log: str, messages: str) -> None:
        super().__init__(code, Command.PROG_LOAD, log)
        self.program = program
        self.messages = messages


class ObjectMap(NamedTuple):
    """A map of an opened object; ``name`` is from the object (libbpf would report that of a reused map)."""

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
        """Type, key size, value size, entries, flags: must be equal for a map to be reused."""
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
        check(library().bpf_map__set_max_entries(self.handle, entries), f"size map {self.name}")

    def initial_value(self) -> bytes:
        """A data section's bytes before the load."""
        size = c_size_t()
        at = library().bpf_map__initial_value(self.handle, ctypes.byref(size))
        return ctypes.string_at(at, size.value) if at else b""

    def set_initial_value(self, data: bytes) -> None:
        check(library().bpf_map__set_initial_value(self.handle, data, len(data)), f"fill {self.name}")

    def leave_out(self) -> None:
        """Don't create it; no loaded program may refer to it."""
        # libbpf fills program arrays after the load, in 1.1 even those that are not created.
        check(library().bpf_map__set_type(self.handle, MAP_TYPE_ARRAY), f"leave out map {self.name}")
        check(library().bpf_map__set_autocreate(self.handle, False), f"leave out map {self.name}")

    def reuse(self, fd: Fd) -> None:
        """Use an existing map instead of a new one."""
        check(library().bpf_map__reuse_fd(self.handle, fd.fileno()), f"reuse map {self.name}")


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
        """The final instructions with subprograms appended, before any `rewrite_at_load`; map descriptors in
        them are this process's.
        """
        lib = library()
        if self.handle in lib.rewritten:
            return bytes(lib.rewritten[self.handle])
        at, count = lib.bpf_program__insns(self.handle), lib.bpf_program__insn_cnt(self.handle)
        return ctypes.string_at(at, count * 8)

    def func_info(self) -> tuple[tuple[int, int], ...]:
        """(instruction offset, BTF type ID) of every function in `instructions`; () without BTF."""
        return tuple(struct.iter_unpack("<II", library().func_info.get(self.handle, b"")))

    def line_info(self) -> tuple[tuple[int, int, int, int], ...]:
        """``struct bpf_line_info`` of the program, with strings in its object's BTF; () without line
        information.
        """
        return tuple(struct.iter_unpack("<IIII", library().line_info.get(self.handle, b"")))

    def set_autoload(self, load: bool) -> None:
        library().bpf_program__set_autoload(self.handle, load)

    def rewrite_at_load(self, rewrite: Callable[[bytes], bytes]) -> None:
        """Replace the instructions that libbpf passes to the kernel by as many others."""
        library().rewrites[self.handle] = rewrite

    def as_xdp(self, frags: bool, *, attach_type: int = ATTACH_TYPE_XDP) -> None:
        """Load it as an XDP program."""
        lib = library()
        lib.bpf_program__set_type(self.handle, ProgType.XDP)
        lib.bpf_program__set_expected_attach_type(self.handle, attach_type)
        lib.bpf_program__set_flags(self.handle, BPF_F_XDP_HAS_FRAGS if frags else 0)

    def bind_to(self, ifindex: int) -> None:
        """Bind an XDP program to a device in the network namespace where it will be loaded."""
        lib = library()
        flags = lib.bpf_program__flags(self.handle) | BPF_F_XDP_DEV_BOUND_ONLY
        lib.bpf_program__set_flags(self.handle, flags)
        lib.bpf_program__set_ifindex(self.handle, ifindex)

    def as_freplace(self, target: Fd, function: str) -> None:
        """Load it as a replacement for ``function`` in the loaded program ``target``."""
        lib = library()
        lib.bpf_program__set_type(self.handle, ProgType.EXT)
        lib.bpf_program__set_expected_attach_type(self.handle, 0)
        lib.bpf_program__set_flags(self.handle, 0)
        check(
            lib.bpf_program__set_attach_target(self.handle, target.fileno(), function.encode()),
            f"aim at {function}",
        )

    def as_fentry(self, target: Fd, function: str) -> None:
        """Load it as a tracer of calls of ``function`` in the loaded program ``target``."""
        lib = library()
        lib.bpf_program__set_type(self.handle, ProgType.TRACING)
        lib.bpf_program__set_expected_attach_type(self.handle, ATTACH_TYPE_FENTRY)
        self.as_fexit(target, function)

    def as_fexit(self, target: Fd, function: str) -> None:
        """Load it as a tracer of returns from ``function`` in the loaded program ``target``."""
        lib = library()
        check(
            lib.bpf_program__set_attach_target(self.handle, target.fileno(), function.encode()),
            f"aim at {function}",
        )


class Object(Closing):
    """An object file opened by libbpf, closed explicitly or by ``with``; closing releases its descriptors."""

    def __init__(self, data: bytes, name: str = "object") -> None:
        """Open ``data``, an ELF file's bytes. Raises InvalidInput with libbpf's message."""
        self._lib = library()
        self.data = data
        self._logs: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._handle: int | None = None
        with self._lib.lock:
            self._lib.messages.clear()
            options = OpenOptions(ctypes.sizeof(OpenOptions), name.encode()[:15], False, None)
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

        The verifier's statistics are kept for `log`; ``verbose`` requests its full log instead, which takes
        megabytes and is meant for a second attempt at a refused object.
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
                # libbpf stops at the first program that fails, which is the last one with a log.
                failed = [p for p in self.programs() if self.log(p) and p.fd < 0]
                raise LoadFailed(
                    -result,
                    failed[-1].name if failed else "",
                    self.log(failed[-1]) if failed else "",
                    "".join(self._lib.messages),
                )

    def log(self, program: ObjectProgram) -> str:
        """The verifier's log of a program from the last load."""
        log = self._logs.get(program.handle)
        return log.value.decode(errors="replace") if log else ""

    def close(self) -> None:
        if self._handle:
            for program in self.programs():
                self._lib.func_info.pop(program.handle, None)
                self._lib.line_info.pop(program.handle, None)
                self._lib.rewrites.pop(program.handle, None)
                self._lib.rewritten.pop(program.handle, None)
            handle, self._handle = self._handle, None
            self._lib.bpf_object__close(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()
