# SPDX-License-Identifier: Apache-2.0
"""Copies of maps, for trials that must not affect the running chain."""

from __future__ import annotations

import errno
import struct

from xdpchain.errors import Unsupported

from . import bpf
from .cpus import possible_cpus

__all__ = ["LIMIT", "MapTooLarge", "clone_map"]

LIMIT = 1 << 18
"""Larger maps are copied only up to about this many elements, and the trial says so."""
ROOM = 1 << 27
"""Largest map, in bytes, that is copied at all: the kernel allocates the whole size up front."""
BATCH_BYTES = 1 << 20
ENOTSUPP = 524  # kernel-internal, but returned for map types without batch operations

BPF_F_RDONLY_PROG = 1 << 7
PER_CPU = {
    bpf.MapType.PERCPU_HASH,
    bpf.MapType.PERCPU_ARRAY,
    bpf.MapType.LRU_PERCPU_HASH,
    bpf.MapType.PERCPU_CGROUP_STORAGE,
}
MAPS_OF_MAPS = {bpf.MapType.ARRAY_OF_MAPS, bpf.MapType.HASH_OF_MAPS}
# The types whose elements can be listed and read; all others are copied empty. So are program and perf event
# arrays: a program called through a copy would use the running maps, and events would reach the readers of
# the real ones.
DATA = {
    bpf.MapType.HASH,
    bpf.MapType.ARRAY,
    bpf.MapType.LRU_HASH,
    bpf.MapType.LPM_TRIE,
    *PER_CPU,
    *MAPS_OF_MAPS,
}
# Programs can't write to these. They hold devices, CPUs and sockets, and a trial never reaches those.
REFERENCES = {
    bpf.MapType.CGROUP_ARRAY,
    bpf.MapType.DEVMAP,
    bpf.MapType.DEVMAP_HASH,
    bpf.MapType.CPUMAP,
    bpf.MapType.XSKMAP,
}


class MapTooLarge(Unsupported):
    """A map too large to copy for a trial: it would take too much kernel memory."""


def clone_map(fd: bpf.Fd) -> tuple[bpf.Fd, bool]:
    """A map of the same shape with the same elements, and whether the copy is complete.

    Maps that programs can't change (frozen constants, device maps) are shared instead of copied.
    Raises BpfError, MapTooLarge.
    """
    info = bpf.map_info(fd)
    if info.flags & BPF_F_RDONLY_PROG or info.type in REFERENCES:
        return fd.duplicate(), True
    inner = _inner(fd, info)
    if inner is None and info.type in MAPS_OF_MAPS:
        return fd.duplicate(), True  # empty, and programs can't fill it
    if info.max_entries * (info.key_size + _value_size(info)) > ROOM:
        raise MapTooLarge(
            f"map {info.name} is too large for a trial",
            f"a copy needs more than {ROOM >> 20} MiB of kernel memory",
        )
    with _types(info) as types:
        try:
            copy = bpf.map_create(
                info.type, info.key_size, info.value_size, info.max_entries, name=info.name, flags=info.flags,
                btf_fd=types.fileno() if info.btf_id else 0,
                btf_types=(info.btf_key_type, info.btf_value_type) if info.btf_id else (0, 0),
                inner_fd=inner.fileno() if inner else 0,
            )  # fmt: skip
        finally:
            if inner:
                inner.close()
    try:
        return copy, info.type in DATA and _fill(fd, copy, info)
    except BaseException as error:
        if isinstance(error, bpf.BpfError) and error.errno == errno.E2BIG:
            return copy, False  # elements came and went meanwhile, and the copy is full
        copy.close()
        raise


def _fill(source: bpf.Fd, copy: bpf.Fd, info: bpf.MapInfo) -> bool:
    size = _value_size(info)
    if info.type not in MAPS_OF_MAPS:
        try:
            return _fill_at_once(source, copy, info, size)
        except bpf.BpfError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP, errno.ENOSPC):
                raise
    for count, key in enumerate(bpf.map_keys(source, info.key_size)):
        if count == LIMIT:
            return False
        try:
            value = bpf.map_lookup(source, key, size)
        except bpf.BpfError as error:
            if error.errno == errno.ENOENT:  # an empty entry, or deleted meanwhile
                continue
            raise
        if info.type in MAPS_OF_MAPS:
            with bpf.map_by_id(struct.unpack("=I", value)[0]) as inner, clone_map(inner)[0] as twin:
                bpf.map_update(copy, key, struct.pack("=I", twin.fileno()))
        else:
            bpf.map_update(copy, key, value)
    return True


def _fill_at_once(source: bpf.Fd, copy: bpf.Fd, info: bpf.MapInfo, size: int) -> bool:
    """Copy thousands of elements with two system calls, about 50 times as fast. Raises BpfError if the kernel
    (before 5.6) or the map type has no batch operations; elements may then be copied a second time.
    """
    count = max(1, min(info.max_entries, BATCH_BYTES // (info.key_size + size)))
    total, cursor = 0, None
    while True:
        got, cursor = bpf.map_copy_batch(source, copy, cursor, count, info.key_size, size)
        total += got
        if cursor is None:
            return True
        if total >= LIMIT:
            return False


def _value_size(info: bpf.MapInfo) -> int:
    """Bytes of a value as user space sees it."""
    return (info.value_size + 7 & ~7) * possible_cpus() if info.type in PER_CPU else info.value_size


def _inner(fd: bpf.Fd, info: bpf.MapInfo) -> bpf.Fd | None:
    """Any inner map of a map of maps, as the template for the copy's."""
    if info.type not in MAPS_OF_MAPS:
        return None
    for key in bpf.map_keys(fd, info.key_size):
        try:
            return bpf.map_by_id(struct.unpack("=I", bpf.map_lookup(fd, key, 4))[0])
        except bpf.BpfError as error:
            if error.errno != errno.ENOENT:
                raise
    return None


def _types(info: bpf.MapInfo) -> bpf.Fd:
    return bpf.btf_by_id(info.btf_id) if info.btf_id else bpf.Fd(-1)
