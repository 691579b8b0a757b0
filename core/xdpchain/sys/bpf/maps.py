# SPDX-License-Identifier: Apache-2.0
"""Maps: made, described, read and written."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from .call import BpfError, Command, Fd, Memory, bpf_call, open_by_id, raise_memlock, read_info, text

__all__ = [
    "MapInfo",
    "MapType",
    "map_by_id",
    "map_create",
    "map_delete",
    "map_freeze",
    "map_info",
    "map_keys",
    "map_lookup",
    "map_type_name",
    "map_update",
]


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
    raise_memlock()
    attr = struct.pack(
        "<IIIIIII16sIIII",
        kind, key, value, entries, flags, inner_fd, 0, name.encode()[:15], 0, btf_fd, *btf_types,
    )  # fmt: skip
    return Fd(bpf_call(Command.MAP_CREATE, attr)[0])


def map_info(fd: Fd | int) -> MapInfo:
    """What the kernel says of a map."""
    raw = read_info(fd, 88)
    kind, number, key, value, entries, flags, name = struct.unpack_from("<IIIIII16s", raw)
    return MapInfo(kind, number, key, value, entries, flags, text(name), *struct.unpack_from("<III", raw, 64))


def map_type_name(kind: int) -> str:
    """A map type's name, as bpftool spells it."""
    return MapType(kind).name.lower() if kind in MapType.__members__.values() else f"type {kind}"


def map_by_id(number: int) -> Fd:
    """A descriptor of the map with this id. Raises BpfError (ENOENT if it is gone)."""
    return open_by_id(Command.MAP_GET_FD_BY_ID, number)


def map_lookup(fd: Fd, key: bytes, size: int) -> bytes:
    """The value at ``key``; ``size`` is the value's size as user space sees it (per-CPU maps: all CPUs')."""
    memory = Memory()
    value = memory.buffer(size)
    attr = struct.pack("<IIQQQ", fd, 0, memory.at(key), ctypes.addressof(value), 0)
    bpf_call(Command.MAP_LOOKUP_ELEM, attr)
    return value.raw


def map_update(fd: Fd, key: bytes, value: bytes, flags: int = 0) -> None:
    """Set the value at ``key``; ``flags`` 1 (BPF_NOEXIST): only where a hash map has none."""
    memory = Memory()
    bpf_call(Command.MAP_UPDATE_ELEM, struct.pack("<IIQQQ", fd, 0, memory.at(key), memory.at(value), flags))


def map_delete(fd: Fd, key: bytes) -> None:
    """Remove ``key``."""
    memory = Memory()
    bpf_call(Command.MAP_DELETE_ELEM, struct.pack("<IIQ", fd, 0, memory.at(key)))


def map_keys(fd: Fd, size: int) -> Iterator[bytes]:
    """The keys of a map, in the kernel's order; ``size`` is a key's."""
    memory = Memory()
    room = memory.buffer(size)
    key = 0
    while True:
        try:
            bpf_call(Command.MAP_GET_NEXT_KEY, struct.pack("<IIQQ", fd, 0, key, ctypes.addressof(room)))
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        yield room.raw
        key = memory.at(room.raw)


def map_freeze(fd: Fd) -> None:
    """Forbid user space to write to the map from now on."""
    bpf_call(Command.MAP_FREEZE, struct.pack("<I", fd))
