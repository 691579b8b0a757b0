# SPDX-License-Identifier: Apache-2.0
"""Create, describe, read and write maps."""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from .call import BpfError, Command, Fd, Memory, bpf_call, fdinfo, open_by_id, raise_memlock, read_info, text

__all__ = [
    "MapInfo",
    "MapType",
    "cpus_in_a_value",
    "map_by_id",
    "map_copy_batch",
    "map_create",
    "map_delete",
    "map_freeze",
    "map_frozen",
    "map_info",
    "map_keys",
    "map_lookup",
    "map_lookup_batch",
    "map_next_key",
    "map_poke",
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


MOST_CPUS = 8192
"""The largest NR_CPUS that kernels are built with."""


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
    """Create a map; sizes in bytes. ``btf_types`` are the type IDs of key and value."""
    raise_memlock()
    attr = struct.pack(
        "<IIIIIII16sIIII",
        kind, key, value, entries, flags, inner_fd, 0, name.encode()[:15], 0, btf_fd, *btf_types,
    )  # fmt: skip
    return Fd(bpf_call(Command.MAP_CREATE, attr)[0])


def map_info(fd: Fd | int) -> MapInfo:
    """The kernel's information about a map."""
    raw = read_info(fd, 88)
    kind, map_id, key, value, entries, flags, name = struct.unpack_from("<IIIIII16s", raw)
    return MapInfo(kind, map_id, key, value, entries, flags, text(name), *struct.unpack_from("<III", raw, 64))


def map_type_name(kind: int) -> str:
    """A map type's name, as bpftool spells it."""
    return MapType(kind).name.lower() if kind in MapType.__members__.values() else f"type {kind}"


def map_by_id(map_id: int) -> Fd:
    """A descriptor for the map with this ID. Raises BpfError (ENOENT if it is gone)."""
    return open_by_id(Command.MAP_GET_FD_BY_ID, map_id)


def map_lookup(fd: Fd, key: bytes, size: int) -> bytes:
    """The value at ``key``; ``size`` is its size for user space (per-CPU maps: of all CPUs together)."""
    memory = Memory()
    value = memory.buffer(size)
    attr = struct.pack("<IIQQQ", fd, 0, memory.at(key), ctypes.addressof(value), 0)
    bpf_call(Command.MAP_LOOKUP_ELEM, attr)
    return value.raw


def cpus_in_a_value() -> int:
    """The number of possible CPUs according to the kernel, which is the number of elements in a per-CPU
    value. Raises BpfError.
    """
    memory = Memory()
    room = memory.buffer(8 * MOST_CPUS)
    ctypes.memset(room, 0xFF, len(room))
    with map_create(MapType.PERCPU_ARRAY, 4, 8, 1, name="xdptui_probe") as fd:
        attr = struct.pack("<IIQQQ", fd, 0, memory.at(bytes(4)), ctypes.addressof(room), 0)
        bpf_call(Command.MAP_LOOKUP_ELEM, attr)
    return (len(room) - len(room.raw.lstrip(b"\0"))) // 8


def map_update(fd: Fd, key: bytes, value: bytes, flags: int = 0) -> None:
    """Set the value at ``key``; ``flags`` 1 (BPF_NOEXIST): only if a hash map does not have the key."""
    memory = Memory()
    bpf_call(Command.MAP_UPDATE_ELEM, struct.pack("<IIQQQ", fd, 0, memory.at(key), memory.at(value), flags))


def map_delete(fd: Fd, key: bytes) -> None:
    """Remove ``key``."""
    memory = Memory()
    bpf_call(Command.MAP_DELETE_ELEM, struct.pack("<IIQ", fd, 0, memory.at(key)))


def map_keys(fd: Fd, size: int) -> Iterator[bytes]:
    """The keys of a map, in the kernel's order; ``size`` is the key size."""
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


def map_next_key(fd: Fd, key: bytes | None, size: int) -> bytes | None:
    """The key after ``key`` (None: the first), in the kernel's order; None after the last.

    If ``key`` was removed meanwhile, a hash map starts again with its first key.
    """
    memory = Memory()
    room = memory.buffer(size)
    attr = struct.pack("<IIQQ", fd, 0, memory.at(key) if key is not None else 0, ctypes.addressof(room))
    try:
        bpf_call(Command.MAP_GET_NEXT_KEY, attr)
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return room.raw


def map_lookup_batch(
    fd: Fd, cursor: bytes | None, count: int, key_size: int, value_size: int
) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
    """Up to ``count`` elements starting at ``cursor`` (None: the start), and the next cursor (None: the end).

    ``value_size`` is that for user space, as in `map_lookup`. A hash map's cursor is a bucket, and each is
    visited once, whatever changes meanwhile (kernel 5.6, 057996380a42). Raises BpfError: ENOSPC if a bucket
    has more than ``count`` elements; EINVAL or ENOTSUPP (524) if the kernel or map type does not support the
    command.
    """
    memory = Memory()
    keys, values = memory.buffer(key_size * count), memory.buffer(value_size * count)
    place = memory.buffer(max(4, key_size))
    attr = struct.pack(
        "<QQQQIIQQ",
        memory.at(cursor) if cursor is not None else 0,
        ctypes.addressof(place), ctypes.addressof(keys), ctypes.addressof(values), count, fd, 0, 0,
    )  # fmt: skip
    end = False
    try:
        raw = bpf_call(Command.MAP_LOOKUP_BATCH, attr)[1]
    except BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        raw, end = error.attr, True
    got = min(count, struct.unpack_from("<I", raw, 32)[0])
    found = [
        (
            ctypes.string_at(ctypes.addressof(keys) + i * key_size, key_size),
            ctypes.string_at(ctypes.addressof(values) + i * value_size, value_size),
        )
        for i in range(got)
    ]
    return found, None if end else place.raw


def map_copy_batch(
    source: Fd, copy: Fd, cursor: bytes | None, count: int, key_size: int, value_size: int
) -> tuple[int, bytes | None]:
    """Copy up to ``count`` elements of ``source``, starting at ``cursor``, to ``copy``, a map of the same
    shape, with two system calls. Returns their number and the next cursor. See `map_lookup_batch`.
    """
    memory = Memory()
    keys, values = memory.buffer(key_size * count), memory.buffer(value_size * count)
    place = memory.buffer(max(4, key_size))
    at = memory.at(cursor) if cursor is not None else 0
    both = ctypes.addressof(keys), ctypes.addressof(values)
    end = False
    try:
        raw = bpf_call(
            Command.MAP_LOOKUP_BATCH,
            struct.pack("<QQQQIIQQ", at, ctypes.addressof(place), *both, count, source, 0, 0),
        )[1]
    except BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        raw, end = error.attr, True
    got = min(count, struct.unpack_from("<I", raw, 32)[0])
    if got:
        bpf_call(Command.MAP_UPDATE_BATCH, struct.pack("<QQQQIIQQ", 0, 0, *both, got, copy, 0, 0))
    return got, None if end else place.raw


def map_poke(fd: Fd, offset: int, data: bytes) -> None:
    """Write a few bytes of an array map created with BPF_F_MMAPABLE, without touching the rest of the
    element, which a program may be writing concurrently. Raises OSError.
    """
    start = offset // mmap.PAGESIZE * mmap.PAGESIZE
    length = -(-(offset + len(data) - start) // mmap.PAGESIZE) * mmap.PAGESIZE
    with mmap.mmap(fd.fileno(), length, offset=start) as memory:
        memory[offset - start : offset - start + len(data)] = data


def map_frozen(fd: Fd) -> bool:
    """Whether the map is frozen for user space (`map_freeze`)."""
    return fdinfo(fd).get("frozen") == "1"


def map_freeze(fd: Fd) -> None:
    """Make the map read-only for user space."""
    bpf_call(Command.MAP_FREEZE, struct.pack("<I", fd))
