# SPDX-License-Identifier: Apache-2.0
"""Bytes that hang on a program: a frozen array map of one element, bound by BPF_PROG_BIND_MAP."""

from __future__ import annotations

from . import bpf

__all__ = ["make", "read"]

BPF_F_RDONLY_PROG = 1 << 7


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


def read(fd: bpf.Fd) -> bytes:
    """The bytes of a map that `make` made."""
    return bpf.map_lookup(fd, bytes(4), bpf.map_info(fd).value_size)
