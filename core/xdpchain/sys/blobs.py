# SPDX-License-Identifier: Apache-2.0
"""Bytes that hang on a program: a frozen array map of one element, bound by BPF_PROG_BIND_MAP."""

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
"""Bytes of the largest: an object file, or a component's linkable form."""


def make(name: str, data: bytes) -> bpf.Fd:
    """A frozen map that holds ``data`` (at least one byte); its name is what `read` callers look for."""
    fd = bpf.map_create(bpf.MapType.ARRAY, 4, len(data), 1, name=name, flags=BPF_F_RDONLY_PROG)
    try:
        bpf.map_update(fd, bytes(4), data)
        bpf.map_freeze(fd)
    except BaseException:
        fd.close()
        raise
    return fd


def read(fd: bpf.Fd, most: int = MOST) -> bytes:
    """The bytes of a map that `make` made; anybody may give that name to another map. Raises InvalidInput for
    one of another shape, or with more than ``most`` bytes; BpfError.
    """
    info = bpf.map_info(fd)
    if (info.type, info.key_size, info.max_entries) != (bpf.MapType.ARRAY, 4, 1):
        raise InvalidInput(f"the map {info.name} can't be read", "it is not an array of one element")
    if info.value_size > most:
        why = f"it has {info.value_size} bytes, more than {most}"
        raise InvalidInput(f"the map {info.name} can't be read", why)
    return bpf.map_lookup(fd, bytes(4), info.value_size)


def decoded(map_id: int, decode: Callable[[bytes], T], most: int = MOST) -> T:
    """What the map with this id holds, decoded once: what we made is frozen, and no id is
    given twice. Raises BpfError, and what `read` and ``decode`` raise.
    """
    found: T = _decoded(map_id, decode, most)
    return found


@lru_cache(maxsize=256)
def _decoded(map_id: int, decode: Callable[[bytes], Any], most: int) -> Any:
    with bpf.map_by_id(map_id) as fd:
        return decode(read(fd, most))
