# SPDX-License-Identifier: Apache-2.0
"""Programs at a device's multi-program hooks: tcx (kernel 6.6) and netkit (6.7)."""

from __future__ import annotations

import ctypes
import struct
from enum import IntEnum
from typing import NamedTuple

from .call import Command, Memory, bpf_call

__all__ = ["AttachType", "Attachment", "prog_query"]

MOST = 64
"""Most programs at a hook: the kernel's BPF_MPROG_MAX."""


class AttachType(IntEnum):
    """``enum bpf_attach_type``: the values queried here."""

    TCX_INGRESS = 46
    TCX_EGRESS = 47
    NETKIT_PRIMARY = 54
    NETKIT_PEER = 55


class Attachment(NamedTuple):
    """A program's ID, and that of the bpf_link that holds it (None: no link)."""

    prog_id: int
    link_id: int | None


def prog_query(ifindex: int, hook: AttachType) -> tuple[Attachment, ...]:
    """The programs at a hook of a device in this thread's network namespace, in run order. Takes
    CAP_NET_ADMIN. Raises BpfError (EINVAL if the kernel does not have the hook).
    """
    memory = Memory()
    programs, links = memory.buffer(4 * MOST), memory.buffer(4 * MOST)
    place = [ctypes.addressof(buffer) for buffer in (programs, links)]
    attr = struct.pack("=IIIIQIIQQQQ", ifindex, hook, 0, 0, place[0], MOST, 0, 0, place[1], 0, 0)
    count = struct.unpack_from("=I", bpf_call(Command.PROG_QUERY, attr)[1], 24)[0]
    found = [struct.unpack(f"={MOST}I", buffer.raw)[: min(count, MOST)] for buffer in (programs, links)]
    return tuple(Attachment(prog, link or None) for prog, link in zip(*found, strict=True))
