# SPDX-License-Identifier: Apache-2.0
"""Bytes that hang on a program: a frozen array map of one element, bound by BPF_PROG_BIND_MAP."""

from __future__ import annotations

from xdpchain.errors import InvalidInput

from . import bpf

__all__ = ["make", "read"]

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
        raise InvalidInput(f"the map {info.name} can't be read", "it is no array of one element")
    if info.value_size > most:
        why = f"it has {info.value_size} bytes, more than {most}"
        raise InvalidInput(f"the map {info.name} can't be read", why)
    return bpf.map_lookup(fd, bytes(4), info.value_size)
