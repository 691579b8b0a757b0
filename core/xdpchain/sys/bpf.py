# SPDX-License-Identifier: Apache-2.0
"""The bpf(2) system call: programs, maps, links and BTF by descriptor and by id.

One thin function a command, no policy. A command that the kernel refuses raises BpfError, an OSError that
names the command and keeps the verifier's log; the layers above turn it into the engine's errors with
`refusal`. Layouts are those of ``union bpf_attr`` and the ``bpf_*_info`` structs of the kernel's
uapi/linux/bpf.h, which only ever grow at the end.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from types import TracebackType
from typing import NamedTuple

from xdpchain.errors import KernelRefused, NotFound, PermissionDenied, Unsupported, XdpChainError

__all__ = [
    "BpfError",
    "Command",
    "Fd",
    "LinkInfo",
    "MapInfo",
    "MapType",
    "ProgInfo",
    "ProgType",
    "TestRun",
    "btf_by_id",
    "btf_load",
    "btf_raw",
    "ids",
    "link_by_id",
    "link_create",
    "link_info",
    "map_by_id",
    "map_create",
    "map_delete",
    "map_freeze",
    "map_info",
    "map_keys",
    "map_lookup",
    "map_type_name",
    "map_update",
    "obj_get",
    "obj_pin",
    "prog_bind_map",
    "prog_by_id",
    "prog_func_info",
    "prog_info",
    "prog_load",
    "prog_map_ids",
    "prog_test_run",
    "refusal",
    "trace_attach",
]

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "s390x": 351, "ppc64le": 361}
_libc = ctypes.CDLL(None, use_errno=True)


class Command(IntEnum):
    """``enum bpf_cmd``, as far as it is used here."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    BTF_GET_FD_BY_ID = 19
    MAP_FREEZE = 22
    LINK_CREATE = 28
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    PROG_BIND_MAP = 35


class ProgType(IntEnum):
    """``enum bpf_prog_type``, as far as it is used here."""

    XDP = 6
    RAW_TRACEPOINT = 17
    TRACING = 26
    EXT = 28


class MapType(IntEnum):
    """``enum bpf_map_type``."""

    UNSPEC = 0
    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    CGROUP_ARRAY = 8
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    SOCKMAP = 15
    CPUMAP = 16
    XSKMAP = 17
    SOCKHASH = 18
    CGROUP_STORAGE = 19
    REUSEPORT_SOCKARRAY = 20
    PERCPU_CGROUP_STORAGE = 21
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    DEVMAP_HASH = 25
    STRUCT_OPS = 26
    RINGBUF = 27
    INODE_STORAGE = 28
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    USER_RINGBUF = 31
    CGRP_STORAGE = 32
    ARENA = 33


class BpfError(OSError):
    """bpf(2) returned an error; ``log`` is what the verifier or the BTF parser said."""

    def __init__(self, number: int, command: Command, log: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.command = command
        self.log = log

    def __str__(self) -> str:
        return f"BPF_{self.command.name}: {self.strerror}"


def refusal(error: OSError, what: str, todo: str = "", *, log: str = "") -> XdpChainError:
    """The engine's error for a refused system call: ``what`` failed, with the kernel's reason and words.

    EPERM and EACCES become PermissionDenied unless the verifier spoke, ENOENT NotFound, and what a kernel
    without the feature answers (EOPNOTSUPP and its kind) Unsupported.
    """
    log = log or getattr(error, "log", "")
    words = "\n".join(part for part in (str(error), log.rstrip()) if part)
    name = errno.errorcode.get(error.errno or 0, "?")
    why = f"{os.strerror(error.errno or 0)} ({name})"
    if error.errno == errno.EPERM or (error.errno == errno.EACCES and not log):
        return PermissionDenied(
            what, why, todo or "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed; run as root", detail=words
        )
    if error.errno == errno.ENOENT:
        return NotFound(what, why, todo, detail=words)
    if error.errno in (errno.EOPNOTSUPP, 524):
        return Unsupported(what, why, todo, detail=words)
    return KernelRefused(what, why, todo, detail=words)


class Fd:
    """A descriptor that is closed once, by hand, by ``with``, or with the object."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        if self._number < 0:
            raise ValueError("the descriptor is closed")
        return self._number

    __int__ = __index__ = fileno

    def duplicate(self) -> Fd:
        """Another descriptor of the same object (close-on-exec)."""
        return Fd(os.dup(self.fileno()))

    def close(self) -> None:
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    def __enter__(self) -> Fd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


@cache
def _syscall_number() -> int:
    try:
        return _SYSCALL[platform.machine()]
    except KeyError:
        raise Unsupported(
            f"bpf(2) on {platform.machine()}", "its system call number is not known here"
        ) from None


@cache
def _raise_memlock() -> None:
    # Before kernel 5.11 (3ac1f01b43b6), BPF memory counts against RLIMIT_MEMLOCK instead of the memory
    # cgroup.
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        pass


def _bpf(command: Command, attr: bytes) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(attr, len(attr))
    result = _libc.syscall(_syscall_number(), int(command), buffer, len(attr))
    if result < 0:
        raise BpfError(ctypes.get_errno(), command)
    return result, buffer.raw


class _Memory:
    """Keeps the buffers alive that an attr points to."""

    def __init__(self) -> None:
        self._kept: list[ctypes.Array[ctypes.c_char]] = []

    def buffer(self, data: bytes | int) -> ctypes.Array[ctypes.c_char]:
        made = ctypes.create_string_buffer(data, len(data) if isinstance(data, bytes) else data)
        self._kept.append(made)
        return made

    def at(self, data: bytes) -> int:
        return ctypes.addressof(self.buffer(data)) if data else 0


# Programs


class ProgInfo(NamedTuple):
    """``struct bpf_prog_info``: sizes in bytes, ``load_time`` in ns since boot."""

    type: int
    id: int
    tag: str
    jited_len: int
    xlated_len: int
    load_time: int
    uid: int
    map_count: int
    name: str
    ifindex: int
    gpl: bool
    btf_id: int
    function_count: int
    run_time_ns: int
    run_count: int
    verified_instructions: int
    attach_btf_object: int
    attach_btf_id: int


_PROG_INFO = 232


def prog_load(
    kind: int,
    instructions: bytes,
    *,
    name: str,
    licence: str = "GPL",
    attach_type: int = 0,
    flags: int = 0,
    btf_fd: int = 0,
    func_info: bytes = b"",
    attach_btf_id: int = 0,
    attach_fd: int = 0,
    log_level: int = 0,
    log_size: int = 1 << 16,
) -> Fd:
    """Load a program from final instructions. ``func_info`` has 8-byte records. Raises BpfError with the
    log.
    """
    _raise_memlock()
    memory = _Memory()
    log = memory.buffer(log_size) if log_level else None
    attr = struct.pack(
        "<IIQQIIQII16sIIIIQIIQIII",
        kind,
        len(instructions) // 8,
        memory.at(instructions),
        memory.at(licence.encode() + b"\0"),
        log_level,
        log_size if log else 0,
        ctypes.addressof(log) if log else 0,
        0,
        flags,
        name.encode()[:15],
        0,
        attach_type,
        btf_fd,
        8 if func_info else 0,
        memory.at(func_info),
        len(func_info) // 8,
        0,
        0,
        0,
        attach_btf_id,
        attach_fd,
    )
    try:
        return Fd(_bpf(Command.PROG_LOAD, attr)[0])
    except BpfError as error:
        error.log = log.value.decode(errors="replace") if log else ""
        raise


def prog_info(fd: Fd | int) -> ProgInfo:
    """What the kernel says of a program."""
    raw = _info(fd, _PROG_INFO)
    kind, number, tag, jited, xlated, _, _, loaded, uid, maps, _, name, ifindex, gpl = struct.unpack_from(
        "<II8sIIQQQIIQ16sII", raw
    )
    btf_id, _, _, functions = struct.unpack_from("<IIQI", raw, 128)
    run_time, run_count, _, verified, attach_object, attach_id = struct.unpack_from("<QQQIII", raw, 192)
    return ProgInfo(
        kind,
        number,
        tag.hex(),
        jited,
        xlated,
        loaded,
        uid,
        maps,
        _text(name),
        ifindex,
        bool(gpl & 1),
        btf_id,
        functions,
        run_time,
        run_count,
        verified,
        attach_object,
        attach_id,
    )


def prog_map_ids(fd: Fd | int) -> tuple[int, ...]:
    """The ids of the maps that a program uses, those bound by BPF_PROG_BIND_MAP included."""
    count = prog_info(fd).map_count
    if not count:
        return ()
    memory = _Memory()
    room = memory.buffer(4 * count)
    ask = bytearray(_PROG_INFO)
    struct.pack_into("<IIQ", ask, 48, 0, count, ctypes.addressof(room))
    got = struct.unpack_from("<I", _info(fd, _PROG_INFO, bytes(ask)), 52)[0]
    return struct.unpack_from(f"<{min(got, count)}I", room.raw)


def prog_func_info(fd: Fd | int) -> tuple[tuple[int, int], ...]:
    """(instruction offset, BTF type id) of each function, as the kernel kept them."""
    count = prog_info(fd).function_count
    if not count:
        return ()
    memory = _Memory()
    room = memory.buffer(8 * count)
    ask = bytearray(_PROG_INFO)
    struct.pack_into("<IQI", ask, 132, 8, ctypes.addressof(room), count)
    _info(fd, _PROG_INFO, bytes(ask))
    return tuple(struct.iter_unpack("<II", room.raw))


def prog_by_id(number: int) -> Fd:
    """A descriptor of the program with this id. Raises BpfError (ENOENT if it is gone)."""
    return _by_id(Command.PROG_GET_FD_BY_ID, number)


def prog_bind_map(prog: Fd, bound: Fd) -> None:
    """Let the program hold the map for as long as it lives (kernel 5.10, ef15314aa5de)."""
    _bpf(Command.PROG_BIND_MAP, struct.pack("<III", prog, bound, 0))


class TestRun(NamedTuple):
    """One BPF_PROG_TEST_RUN: the return code, the packet afterwards, and the mean time of a run in ns."""

    code: int
    data: bytes
    ns: int


def prog_test_run(prog: Fd, data: bytes, repeat: int = 1) -> TestRun:
    """Run an XDP program over one packet of at least 14 bytes, ``repeat`` times."""
    memory = _Memory()
    room = len(data) + 512
    out = memory.buffer(room)
    attr = struct.pack(
        "<IIIIQQIIIIQQII",
        prog, 0, len(data), room, memory.at(data), ctypes.addressof(out), repeat, 0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    fields = struct.unpack_from("<IIIIQQII", _bpf(Command.PROG_TEST_RUN, attr)[1])
    return TestRun(fields[1], out.raw[: fields[3]], fields[7])


# Maps


class MapInfo(NamedTuple):
    """``struct bpf_map_info``: sizes in bytes."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    btf_id: int
    btf_key_type: int
    btf_value_type: int


def map_create(
    kind: int,
    key: int,
    value: int,
    entries: int,
    *,
    name: str,
    flags: int = 0,
    inner_fd: int = 0,
    btf_fd: int = 0,
    btf_types: tuple[int, int] = (0, 0),
) -> Fd:
    """Create a map; sizes in bytes. ``btf_types`` are the ids of the key's and the value's type."""
    _raise_memlock()
    attr = struct.pack(
        "<IIIIIII16sIIII",
        kind, key, value, entries, flags, inner_fd, 0, name.encode()[:15], 0, btf_fd, *btf_types,
    )  # fmt: skip
    return Fd(_bpf(Command.MAP_CREATE, attr)[0])


def map_info(fd: Fd | int) -> MapInfo:
    """What the kernel says of a map."""
    raw = _info(fd, 88)
    kind, number, key, value, entries, flags, name = struct.unpack_from("<IIIIII16s", raw)
    return MapInfo(
        kind, number, key, value, entries, flags, _text(name), *struct.unpack_from("<III", raw, 64)
    )


def map_type_name(kind: int) -> str:
    """A map type's name, as bpftool spells it."""
    return MapType(kind).name.lower() if kind in MapType.__members__.values() else f"type {kind}"


def map_by_id(number: int) -> Fd:
    """A descriptor of the map with this id. Raises BpfError (ENOENT if it is gone)."""
    return _by_id(Command.MAP_GET_FD_BY_ID, number)


def map_lookup(fd: Fd, key: bytes, size: int) -> bytes:
    """The value at ``key``; ``size`` is the value's size as user space sees it (per-CPU maps: all CPUs')."""
    memory = _Memory()
    value = memory.buffer(size)
    attr = struct.pack("<IIQQQ", fd, 0, memory.at(key), ctypes.addressof(value), 0)
    _bpf(Command.MAP_LOOKUP_ELEM, attr)
    return value.raw


def map_update(fd: Fd, key: bytes, value: bytes, flags: int = 0) -> None:
    """Set the value at ``key``; ``flags`` 1 (BPF_NOEXIST): only where a hash map has none."""
    memory = _Memory()
    _bpf(Command.MAP_UPDATE_ELEM, struct.pack("<IIQQQ", fd, 0, memory.at(key), memory.at(value), flags))


def map_delete(fd: Fd, key: bytes) -> None:
    """Remove ``key``."""
    memory = _Memory()
    _bpf(Command.MAP_DELETE_ELEM, struct.pack("<IIQ", fd, 0, memory.at(key)))


def map_keys(fd: Fd, size: int) -> Iterator[bytes]:
    """The keys of a map, in the kernel's order; ``size`` is a key's."""
    memory = _Memory()
    room = memory.buffer(size)
    key = 0
    while True:
        try:
            _bpf(Command.MAP_GET_NEXT_KEY, struct.pack("<IIQQ", fd, 0, key, ctypes.addressof(room)))
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        yield room.raw
        key = memory.at(room.raw)


def map_freeze(fd: Fd) -> None:
    """Forbid user space to write to the map from now on."""
    _bpf(Command.MAP_FREEZE, struct.pack("<I", fd))


# BTF


def btf_load(data: bytes) -> Fd:
    """Load BTF. Raises BpfError with the parser's log."""
    memory = _Memory()
    try:
        return Fd(_bpf(Command.BTF_LOAD, struct.pack("<QQIII", memory.at(data), 0, len(data), 0, 0))[0])
    except BpfError as error:
        log = memory.buffer(1 << 16)
        attr = struct.pack("<QQIII", memory.at(data), ctypes.addressof(log), len(data), len(log), 1)
        try:
            return Fd(_bpf(Command.BTF_LOAD, attr)[0])
        except BpfError:
            error.log = log.value.decode(errors="replace")
            raise error from None


def btf_by_id(number: int) -> Fd:
    """A descriptor of the BTF object with this id. Raises BpfError (ENOENT if it is gone)."""
    return _by_id(Command.BTF_GET_FD_BY_ID, number)


def btf_raw(number: int) -> bytes:
    """The bytes of the BTF object with this id."""
    with btf_by_id(number) as fd:
        size = struct.unpack_from("<I", _info(fd, 16), 8)[0]
        memory = _Memory()
        room = memory.buffer(size)
        _info(fd, 16, struct.pack("<QII", ctypes.addressof(room), size, 0))
        return room.raw


# Links, pins, ids


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """``struct bpf_link_info``; ``target`` is the ifindex of an XDP link, the target object's id of a
    tracing link.
    """

    type: int
    id: int
    prog_id: int
    target: int
    target_btf_id: int


LINK_TRACING = 2
LINK_XDP = 6


def link_info(fd: Fd | int) -> LinkInfo:
    """What the kernel says of a link."""
    raw = _info(fd, 48)
    kind, number, prog = struct.unpack_from("<III", raw)
    first, second, third = struct.unpack_from("<III", raw, 16)
    return LinkInfo(kind, number, prog, second if kind == LINK_TRACING else first, third)


def link_by_id(number: int) -> Fd:
    """A descriptor of the link with this id. Raises BpfError (ENOENT if it is gone)."""
    return _by_id(Command.LINK_GET_FD_BY_ID, number)


def link_create(prog: Fd, target: Fd | int, attach_type: int = 0, *, target_btf_id: int = 0) -> Fd:
    """Attach ``prog`` to ``target``: a program with the function ``target_btf_id`` (freplace), or an
    ifindex (XDP).
    """
    attr = struct.pack("<IIIIIIQQ", prog, int(target), attach_type, 0, target_btf_id, 0, 0, 0)
    return Fd(_bpf(Command.LINK_CREATE, attr)[0])


def trace_attach(prog: Fd | int, tracepoint: str = "") -> Fd:
    """Attach an fexit program to the function that it was loaded for, or a raw tracepoint program to the
    tracepoint of this name; the link.
    """
    # LINK_CREATE does this only since kernel 5.19 (df86ca0d2f0f).
    memory = _Memory()
    name = memory.at(tracepoint.encode() + b"\0") if tracepoint else 0
    return Fd(_bpf(Command.RAW_TRACEPOINT_OPEN, struct.pack("<QII", name, prog, 0))[0])


def obj_pin(fd: Fd, path: str) -> None:
    """Pin an object at ``path`` on a bpffs."""
    memory = _Memory()
    _bpf(Command.OBJ_PIN, struct.pack("<QIII", memory.at(os.fsencode(path) + b"\0"), fd, 0, 0))


def obj_get(path: str) -> Fd:
    """The object that is pinned at ``path``."""
    memory = _Memory()
    return Fd(_bpf(Command.OBJ_GET, struct.pack("<QIII", memory.at(os.fsencode(path) + b"\0"), 0, 0, 0))[0])


def ids(command: Command) -> Iterator[int]:
    """All ids that one of the GET_NEXT_ID commands yields."""
    number = 0
    while True:
        try:
            raw = _bpf(command, struct.pack("<III", number, 0, 0))[1]
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        number = struct.unpack_from("<I", raw, 4)[0]
        yield number


def _by_id(command: Command, number: int) -> Fd:
    if not 0 < number < 1 << 32:  # from the name of a file, perhaps: no object has such an id
        raise BpfError(errno.ENOENT, command)
    return Fd(_bpf(command, struct.pack("<III", number, 0, 0))[0])


def _info(fd: Fd | int, size: int, ask: bytes = b"") -> bytes:
    memory = _Memory()
    room = memory.buffer(ask.ljust(size, b"\0"))
    _bpf(Command.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, size, ctypes.addressof(room)))
    return room.raw


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")
