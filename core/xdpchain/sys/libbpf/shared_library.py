# SPDX-License-Identifier: Apache-2.0
"""libbpf.so.1, opened once per process: its functions with types, and what its callbacks report."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_long, c_size_t, c_uint32, c_void_p
from functools import cache
from typing import Any

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import InvalidInput, Unsupported
from xdpchain.sys.bpf import ProgType

__all__ = ["ATTACH_TYPE_XDP", "OpenOptions", "check", "kernel_types_missing", "library"]

ATTACH_TYPE_XDP = 37

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
    "bpf_program__set_ifindex": (None, c_void_p, c_uint32),
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
    "btf__load_vmlinux_btf": (c_void_p,),
    "btf__find_by_name_kind": (c_int, c_void_p, c_char_p, c_uint32),
    "btf__new": (c_void_p, c_void_p, c_uint32),
    "btf__new_empty": (c_void_p,),
    "btf__add_btf": (c_int, c_void_p, c_void_p),
    "btf__add_func": (c_int, c_void_p, c_char_p, c_int, c_int),
    "btf__raw_data": (c_void_p, c_void_p, POINTER(c_uint32)),
    "btf__free": (None, c_void_p),
    "btf__type_by_id": (c_void_p, c_void_p, c_uint32),
    "btf__name_by_offset": (c_char_p, c_void_p, c_uint32),
    "libbpf_set_print": (c_void_p, c_void_p),
    "libbpf_register_prog_handler": (c_int, c_char_p, c_int, c_int, c_void_p),
    "ring_buffer__new": (c_void_p, c_int, c_void_p, c_void_p, c_void_p),
    "ring_buffer__consume": (c_int, c_void_p),
    "ring_buffer__free": (None, c_void_p),
    "perf_buffer__new": (c_void_p, c_int, c_size_t, c_void_p, c_void_p, c_void_p, c_void_p),
    "perf_buffer__consume": (c_int, c_void_p),
    "perf_buffer__free": (None, c_void_p),
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


class OpenOptions(ctypes.Structure):
    """``struct bpf_object_open_opts`` up to ``pin_root_path``; the name becomes data maps' prefix."""

    _fields_ = (("sz", c_size_t), ("name", c_char_p), ("relaxed", ctypes.c_bool), ("pin_root", c_char_p))


class _Library:
    """libbpf.so.1 with typed functions; callbacks' reports are kept per thread."""

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
        self.rewrites: dict[int, Callable[[bytes], bytes]] = {}
        self.rewritten: dict[int, bytes] = {}
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (c_void_p, c_size_t, c_char_p, c_void_p)
        self._keep: list[Any] = [_PRINT(self._print), _PREPARE(self._prepare)]
        self._dll.libbpf_set_print(ctypes.cast(self._keep[0], c_void_p))
        options = _HandlerOptions(ctypes.sizeof(_HandlerOptions), 0, None, self._keep[1], None)
        self._keep.append(options)
        # Handlers are process-wide: each treats its sections as libbpf does, so that other users of libbpf in
        # this process see no difference. None stands for sections that libbpf does not know.
        known = (ProgType.XDP, ATTACH_TYPE_XDP)
        for section, (kind, attach) in ((b"xdp", known), (b"xdp.frags", known), (None, (0, 0))):
            self._dll.libbpf_register_prog_handler(section, kind, attach, ctypes.byref(options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dll, name)

    def _print(self, level: int, form: bytes, arguments: int) -> int:
        if level <= 1:  # warnings and information; the rest is for libbpf's developers
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
        if program in self.rewrites:
            at = self._dll.bpf_program__insns(program)
            code = ctypes.string_at(at, self._dll.bpf_program__insn_cnt(program) * 8)
            self.rewritten[program] = code
            ctypes.memmove(at, self.rewrites[program](code), len(code))
        return 0


def _records(options: bytes, field: int, length: int) -> bytes:
    """The first ``length`` bytes of each record in a table whose address, count and record size are at
    ``field``.
    """
    at, count, size = struct.unpack_from("<QII", options, field)
    if not at or not count:
        return b""
    table = ctypes.string_at(at, count * size)
    return b"".join(table[i * size : i * size + length] for i in range(count))


_opening = threading.Lock()


def library() -> Any:
    """libbpf, opened on first use. Raises Unsupported if it is missing."""
    # With `cache` alone two threads could create two, and libbpf would call back into the discarded one.
    with _opening:
        return _opened()


@cache
def _opened() -> _Library:
    return _Library()


def kernel_types_missing() -> tuple[str, str | Advice]:
    """Why the kernel's types are unavailable, and what to do: /sys may not be mounted."""
    if not os.path.isdir("/sys/kernel"):
        return "the kernel's BTF can't be read because /sys is not mounted", advise(Do.MOUNT_SYSFS)
    return "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)", ""


def check(result: int, what: str) -> int:
    """A function's result unless it is an error. Raises InvalidInput."""
    if result < 0:
        raise InvalidInput(f"libbpf could not {what}", os.strerror(-result))
    return result
