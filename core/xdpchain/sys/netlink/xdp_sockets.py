# SPDX-License-Identifier: Apache-2.0
"""A network namespace's AF_XDP sockets, as the kernel lists them (xdp_diag, kernel 5.1 and later)."""

from __future__ import annotations

import struct

from xdpchain.errors import Unsupported
from xdpchain.frozen import frozen
from xdpchain.sys import netns as namespaces

from .messages import DUMP, HEADER, attributes, request
from .transport import Refusal, Transport

__all__ = ["XdpSocket", "list_xdp_sockets"]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_AF_XDP = 44
_MESSAGE = 16
_SHOW = 1 | 1 << 2  # the device, and the memory
_INFO, _UMEM = 1, 5
_UMEM_FLAGS, _ZERO_COPY = 28, 1


@frozen
class XdpSocket:
    """A bound socket: its device and queue, its inode, and whether it receives packets without copying."""

    ifindex: int
    queue: int
    inode: int
    zero_copy: bool


def list_xdp_sockets(netns: str | None) -> tuple[XdpSocket, ...]:
    """The bound sockets. Raises NetnsError, and Unsupported if the kernel does not list them."""
    return namespaces.run(netns, _list)


def _list() -> tuple[XdpSocket, ...]:
    transport = Transport(_NETLINK_SOCK_DIAG)
    body = struct.pack("=BBHIIII", _AF_XDP, 0, 0, 0, _SHOW, 0, 0)
    try:
        replies = transport.exchange(request(_SOCK_DIAG_BY_FAMILY, DUMP, body))
    except Refusal as refusal:
        raise Unsupported(
            "can't list AF_XDP sockets",
            f"this kernel has no xsk_diag, or can't load it ({refusal.words})",
            detail=refusal.detail,
        ) from refusal
    finally:
        transport.close()
    found = (_decode(message) for kind, message in replies if kind == _SOCK_DIAG_BY_FAMILY)
    return tuple(xdp_socket for xdp_socket in found if xdp_socket is not None)


def _decode(message: bytes) -> XdpSocket | None:
    (inode,) = struct.unpack_from("=I", message, HEADER.size + 4)
    found = dict(attributes(message, HEADER.size + _MESSAGE))
    if len(found.get(_INFO, b"")) < 8:
        return None
    ifindex, queue = struct.unpack_from("=II", found[_INFO])
    memory = found.get(_UMEM, b"")
    flags = struct.unpack_from("=I", memory, _UMEM_FLAGS)[0] if len(memory) >= _UMEM_FLAGS + 4 else 0
    return XdpSocket(ifindex, queue, inode, bool(flags & _ZERO_COPY)) if ifindex else None
