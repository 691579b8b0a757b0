# SPDX-License-Identifier: Apache-2.0
"""Data attached to a program: a frozen array map of one element, bound with BPF_PROG_BIND_MAP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import TypeVar

from xdpchain.errors import InvalidInput

from . import bpf
from .while_it_lives import KeptById

__all__ = ["decoded", "keep", "make", "read", "shared"]

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


def shared(name: str, key: Hashable, content: Callable[[], bytes]) -> tuple[bpf.Fd, int]:
    """As `make`, and the map's ID: the map that this process made for an equal ``key`` before if it still
    exists, since nobody can change it. The key says what the content follows from.
    """
    known = _made(name, key)
    with contextlib.suppress(bpf.BpfError):
        for map_id in known:
            return bpf.map_by_id(map_id), map_id
    fd = make(name, content())
    known[:] = [bpf.map_info(fd).id]
    return fd, known[0]


@lru_cache(maxsize=64)
def _made(name: str, key: Hashable) -> list[int]:
    """The ID of the map that was made last. The kernel does not use IDs again."""
    return []


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

    def content() -> T:
        with bpf.map_by_id(map_id) as fd:
            return decode(read(fd, most))

    return _DECODED.of(map_id, decode, content)


def keep(map_id: int, decode: Callable[[bytes], T], content: T) -> None:
    """Cache ``content`` as what `decoded` returns for this map, which was just made from it."""
    _DECODED.keep(map_id, decode, content)


_DECODED = KeptById(bpf.map_by_id)
