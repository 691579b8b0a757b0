# SPDX-License-Identifier: Apache-2.0
"""BTF objects, the kernel's type information."""

from __future__ import annotations

import ctypes
import struct

from .call import BpfError, Command, Fd, Memory, bpf_call, open_by_id, read_info

__all__ = ["btf_by_id", "btf_load", "btf_raw"]


def btf_load(data: bytes) -> Fd:
    """Load BTF. Raises BpfError with the parser's log."""
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
