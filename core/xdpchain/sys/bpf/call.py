# SPDX-License-Identifier: Apache-2.0
"""The system call: commands, errors, descriptors, and memory that a command points to."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from enum import IntEnum
from functools import cache
from types import TracebackType

from xdpchain.errors import Unsupported

__all__ = [
    "BpfError",
    "Command",
    "Fd",
    "Memory",
    "bpf_call",
    "fdinfo",
    "memory_of",
    "open_by_id",
    "raise_memlock",
    "read_info",
    "text",
]

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "s390x": 351, "ppc64le": 361}


_libc = ctypes.CDLL(None, use_errno=True)


class Command(IntEnum):
    """``enum bpf_cmd``: the commands used here."""

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
    PROG_QUERY = 16
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    BTF_GET_FD_BY_ID = 19
    MAP_FREEZE = 22
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    LINK_CREATE = 28
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    ENABLE_STATS = 32
    LINK_DETACH = 34
    PROG_BIND_MAP = 35
    PROG_STREAM_READ_BY_FD = 37


class BpfError(OSError):
    """bpf(2) returned an error. ``log`` is the verifier's or BTF parser's log, ``attr`` the command's
    arguments as the kernel left them.
    """

    def __init__(self, code: int, command: Command, log: str = "", attr: bytes = b"") -> None:
        super().__init__(code, os.strerror(code))
        self.command = command
        self.log = log
        self.attr = attr

    def __str__(self) -> str:
        return f"BPF_{self.command.name}: {self.strerror}"


class Fd:
    """A descriptor that is closed once: explicitly, by ``with``, or with the object."""

    __slots__ = ("_number",)

    def __init__(self, fd: int) -> None:
        self._number = fd

    def fileno(self) -> int:
        if self._number < 0:
            raise ValueError("the descriptor is closed")
        return self._number

    __int__ = __index__ = fileno

    def duplicate(self) -> Fd:
        """A new descriptor for the same object (close-on-exec)."""
        return Fd(os.dup(self.fileno()))

    def close(self) -> None:
        fd, self._number = self._number, -1
        if fd >= 0:
            os.close(fd)

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
        return _SYSCALL[os.uname().machine]
    except KeyError:
        raise Unsupported(f"bpf(2) on {os.uname().machine}", "its system call number is not known") from None


@cache
def raise_memlock() -> None:
    # Before kernel 5.11 (3ac1f01b43b6), BPF memory counts against RLIMIT_MEMLOCK instead of the memory
    # cgroup.
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        pass


def bpf_call(command: Command, attr: bytes) -> tuple[int, bytes]:
    buffer = _copied(attr)
    result = _libc.syscall(_syscall_number(), command, buffer, len(attr))
    if result < 0:
        raise BpfError(ctypes.get_errno(), command, attr=buffer.raw)
    return result, buffer.raw


def _copied(data: bytes) -> ctypes.Array[ctypes.c_char]:
    # create_string_buffer takes twice as long.
    return (ctypes.c_char * len(data)).from_buffer_copy(data)


class Memory:
    """Keeps buffers alive that an attr points to."""

    def __init__(self) -> None:
        self._kept: list[ctypes.Array[ctypes.c_char]] = []

    def buffer(self, data: bytes | int) -> ctypes.Array[ctypes.c_char]:
        made = _copied(data) if isinstance(data, bytes) else (ctypes.c_char * data)()
        self._kept.append(made)
        return made

    def at(self, data: bytes) -> int:
        return ctypes.addressof(self.buffer(data)) if data else 0


def open_by_id(command: Command, object_id: int) -> Fd:
    if not 0 < object_id < 1 << 32:  # perhaps from a file name: not a valid ID
        raise BpfError(errno.ENOENT, command)
    return Fd(bpf_call(command, struct.pack("<III", object_id, 0, 0))[0])


def read_info(fd: Fd | int, size: int, ask: bytes = b"") -> bytes:
    room = _copied(ask.ljust(size, b"\0"))
    bpf_call(Command.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, size, ctypes.addressof(room)))
    return room.raw


def memory_of(fd: Fd) -> int:
    """Bytes of kernel memory used by a program or map, as reported by the kernel."""
    return int(fdinfo(fd).get("memlock", "0"))


def fdinfo(fd: Fd) -> dict[str, str]:
    """The fields of a descriptor's proc_pid_fdinfo(5)."""
    with open(f"/proc/self/fdinfo/{fd.fileno()}") as lines:
        pairs = (line.partition(":") for line in lines)
        return {name: value.strip() for name, _, value in pairs}


def text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")
