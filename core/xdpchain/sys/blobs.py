# SPDX-License-Identifier: Apache-2.0
"""Data attached to a program: a frozen array map of one element, bound with BPF_PROG_BIND_MAP."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from xdpchain.errors import InvalidInput

from . import bpf

__all__ = ["decoded", "make", "read"]

T = TypeVar("T")

BPF_F_RDONLY_PROG = 1 << 7
MOST = 96 << 20
"""Size limit in bytes: the largest are object files and components' linkable forms."""


def make(name: str, data: bytes) -> bpf.Fd:
    """A frozen map that holds ``data`` (at least one byte). Readers recognize it by its name."""
    fd = bpf.map_create(bpf.MapType.ARRAY, 4, len(data), 1, name=name, flags=BPF_F_RDONLY_PROG)
    try:
        bpf.map_update(fd, bytes(4), data)
        bpf.map_freeze(fd)
    except BaseException:
        fd.close()
        raise
    return fd


def read(fd: bpf.Fd, most: int = MOST) -> bytes:
    """The bytes of a map created by `make`. Other maps may carry the same name: raises InvalidInput if the
    shape differs or it holds more than ``most`` bytes; also BpfError.
    """
    info = bpf.map_info(fd)
    if (info.type, info.key_size, info.max_entries) != (bpf.MapType.ARRAY, 4, 1):
        raise InvalidInput(f"the map {info.name} can't be read", "it is not an array of one element")
    if info.value_size > most:
        why = f"it holds {info.value_size} bytes; the limit is {most}"
        raise InvalidInput(f"the map {info.name} can't be read", why)
    return bpf.map_lookup(fd, bytes(4), info.value_size)


def decoded(map_id: int, decode: Callable[[bytes], T], most: int = MOST) -> T:
    """The decoded contents of this map, cached: our maps are frozen, and the kernel does not reuse map IDs.
    Raises BpfError, and whatever `read` and ``decode`` raise.
    """
    found: T = _decoded(map_id, decode, most)
    return found


@lru_cache(maxsize=256)
def _decoded(map_id: int, decode: Callable[[bytes], Any], most: int) -> Any:
    with bpf.map_by_id(map_id) as fd:
        return decode(read(fd, most))
