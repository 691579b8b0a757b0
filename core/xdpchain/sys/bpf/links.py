# SPDX-License-Identifier: Apache-2.0
"""Links, pins, and lists of IDs."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .call import BpfError, Command, Fd, Memory, bpf_call, open_by_id, read_info

__all__ = [
    "LINK_TRACING",
    "LINK_XDP",
    "LinkInfo",
    "each_link",
    "ids",
    "link_by_id",
    "link_create",
    "link_detach",
    "link_info",
    "obj_get",
    "obj_pin",
    "trace_attach",
]

LINK_TRACING = 2


LINK_XDP = 6


class LinkInfo(NamedTuple):
    """``struct bpf_link_info``; ``target`` is an XDP link's ifindex, or a tracing link's target object ID."""

    type: int
    id: int
    prog_id: int
    target: int
    target_btf_id: int


def link_info(fd: Fd | int) -> LinkInfo:
    """The kernel's information about a link."""
    raw = read_info(fd, 48)
    kind, link_id, prog = struct.unpack_from("<III", raw)
    first, second, third = struct.unpack_from("<III", raw, 16)
    return LinkInfo(kind, link_id, prog, second if kind == LINK_TRACING else first, third)


def link_by_id(link_id: int) -> Fd:
    """A descriptor for the link with this ID. Raises BpfError (ENOENT if it is gone)."""
    return open_by_id(Command.LINK_GET_FD_BY_ID, link_id)


def link_create(prog: Fd, target: Fd | int, attach_type: int = 0, *, target_btf_id: int = 0) -> Fd:
    """Attach ``prog`` to ``target``: a program with function ``target_btf_id`` (freplace), or an ifindex
    (XDP).
    """
    attr = struct.pack("<IIIIIIQQ", prog, int(target), attach_type, 0, target_btf_id, 0, 0, 0)
    return Fd(bpf_call(Command.LINK_CREATE, attr)[0])


def link_detach(link: Fd) -> None:
    """Detach a link's program (XDP links: kernel 5.9 and later). The link remains, attached to nothing."""
    bpf_call(Command.LINK_DETACH, struct.pack("<I", link))


def trace_attach(prog: Fd | int, tracepoint: str = "") -> Fd:
    """Attach an fexit program to the function that it was loaded for, or a raw tracepoint program to the
    tracepoint with this name. Returns the link.
    """
    # LINK_CREATE does this only since kernel 5.19 (df86ca0d2f0f).
    memory = Memory()
    name = memory.at(tracepoint.encode() + b"\0") if tracepoint else 0
    return Fd(bpf_call(Command.RAW_TRACEPOINT_OPEN, struct.pack("<QII", name, prog, 0))[0])


def obj_pin(fd: Fd, path: str) -> None:
    """Pin an object at ``path`` in a BPF filesystem."""
    memory = Memory()
    bpf_call(Command.OBJ_PIN, struct.pack("<QIII", memory.at(os.fsencode(path) + b"\0"), fd, 0, 0))


def obj_get(path: str) -> Fd:
    """Open the object pinned at ``path``."""
    memory = Memory()
    return Fd(
        bpf_call(Command.OBJ_GET, struct.pack("<QIII", memory.at(os.fsencode(path) + b"\0"), 0, 0, 0))[0]
    )


def each_link() -> Iterator[tuple[int, LinkInfo]]:
    """All bpf_links with their IDs, except those that can't be opened (any more). Raises BpfError."""
    for link_id in ids(Command.LINK_GET_NEXT_ID):
        try:
            with link_by_id(link_id) as fd:
                info = link_info(fd)
        except BpfError:
            continue
        yield link_id, info


def ids(command: Command) -> Iterator[int]:
    """All IDs from a GET_NEXT_ID command."""
    link_id = 0
    while True:
        try:
            raw = bpf_call(command, struct.pack("<III", link_id, 0, 0))[1]
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        link_id = struct.unpack_from("<I", raw, 4)[0]
        yield link_id
