# SPDX-License-Identifier: Apache-2.0
"""The TCP and UDP sockets of a network namespace, as the kernel lists them (sock_diag(7))."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from xdpchain.errors import KernelRefused
from xdpchain.frozen import frozen
from xdpchain.sys import netns as namespaces

from .messages import DUMP, HEADER, request
from .transport import Refusal, Transport

__all__ = ["Socket", "list_sockets", "list_sockets_at"]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_ALL_STATES = 0xFFFFFFFF
_STATES = {1: "established", 10: "listening"}
_MESSAGE = struct.Struct("=BBBB2H16s16sI8s5I")  # struct inet_diag_msg; the ports are in network order
_PROTOCOLS: tuple[tuple[Literal["TCP", "UDP"], int], ...] = (("TCP", 6), ("UDP", 17))


@frozen
class Socket:
    """A socket: its state ("established", "listening", "" for any other; UDP: "established" if it has a
    peer), both ends (addresses in the kernel's spelling, IPv4-mapped ones as IPv4), the ifindex that it is
    bound to (0: none), and its inode, which identifies it in /proc/PID/fd.
    """

    protocol: Literal["TCP", "UDP"]
    state: str
    local: str
    local_port: int
    remote: str
    remote_port: int
    ifindex: int
    inode: int


def list_sockets(netns: str | None) -> tuple[Socket, ...]:
    """The sockets of a named namespace. Raises NetnsError, PermissionDenied, and KernelRefused if the kernel
    has no sock_diag.
    """
    return namespaces.run(netns, _list)


def list_sockets_at(path: str) -> tuple[Socket, ...]:
    """The sockets of the namespace at a path, such as ``/proc/1/ns/net``. Raises OSError, and the same as
    `list_sockets`.
    """
    return namespaces.run_at(path, _list)


def _list() -> tuple[Socket, ...]:
    transport = Transport(_NETLINK_SOCK_DIAG)
    try:
        return tuple(
            found
            for name, protocol in _PROTOCOLS
            for family in (socket.AF_INET, socket.AF_INET6)
            for found in _ask(transport, name, protocol, family)
        )
    finally:
        transport.close()


def _ask(transport: Transport, name: Literal["TCP", "UDP"], protocol: int, family: int) -> list[Socket]:
    body = struct.pack("=BBBBI48x", family, protocol, 0, 0, _ALL_STATES)
    try:
        replies = transport.exchange(request(_SOCK_DIAG_BY_FAMILY, DUMP, body))
    except Refusal as refusal:
        raise KernelRefused("Can't list the sockets", refusal.words, detail=refusal.detail) from refusal
    return [_decode(name, data) for kind, data in replies if kind == _SOCK_DIAG_BY_FAMILY]


def _decode(name: Literal["TCP", "UDP"], data: bytes) -> Socket:
    family, state, _, _, _, _, source, destination, ifindex, _, _, _, _, _, inode = _MESSAGE.unpack_from(
        data, HEADER.size
    )
    ports = struct.unpack_from("!HH", data, HEADER.size + 4)
    return Socket(
        name,
        _STATES.get(state, ""),
        _address(family, source),
        ports[0],
        _address(family, destination),
        ports[1],
        ifindex,
        inode,
    )


def _address(family: int, raw: bytes) -> str:
    if family == socket.AF_INET:
        return str(IPv4Address(raw[:4]))
    six = IPv6Address(raw)
    return str(six.ipv4_mapped or six)
