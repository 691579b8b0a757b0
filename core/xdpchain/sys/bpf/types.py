# SPDX-License-Identifier: Apache-2.0
"""BTF objects, the kernel's type information."""

from __future__ import annotations

import contextlib
import ctypes
import struct
from functools import lru_cache

from .call import BpfError, Command, Fd, Memory, bpf_call, open_by_id, read_info

__all__ = ["btf_by_id", "btf_load", "btf_raw"]


def btf_load(data: bytes) -> Fd:
    """Load BTF, or open what was loaded before of the same data if it still exists. Raises BpfError with the
    parser's log.
    """
    known = _loaded(data)
    with contextlib.suppress(BpfError):
        for btf_id in known:
            return btf_by_id(btf_id)
    fd = _load(data)
    known[:] = struct.unpack_from("<I", read_info(fd, 16), 12)
    return fd


@lru_cache(maxsize=32)
def _loaded(data: bytes) -> list[int]:
    """The ID of the BTF object that was loaded last. The kernel does not use IDs again."""
    return []


def _load(data: bytes) -> Fd:
    memory = Memory()
    try:
        return Fd(bpf_call(Command.BTF_LOAD, struct.pack("<QQIII", memory.at(data), 0, len(data), 0, 0))[0])
    except BpfError as error:
        log = memory.buffer(1 << 16)
        attr = struct.pack("<QQIII", memory.at(data), ctypes.addressof(log), len(data), len(log), 1)
        try:
            return Fd(bpf_call(Command.BTF_LOAD, attr)[0])
        except BpfError:
            error.log = log.value.decode(errors="replace")
            raise error from None


def btf_by_id(btf_id: int) -> Fd:
    """A descriptor for the BTF object with this ID. Raises BpfError (ENOENT if it is gone)."""
    return open_by_id(Command.BTF_GET_FD_BY_ID, btf_id)


def btf_raw(btf_id: int) -> bytes:
    """The bytes of the BTF object with this ID."""
    with btf_by_id(btf_id) as fd:
        size = struct.unpack_from("<I", read_info(fd, 16), 8)[0]
        memory = Memory()
        room = memory.buffer(size)
        read_info(fd, 16, struct.pack("<QII", ctypes.addressof(room), size, 0))
        return room.raw
