# SPDX-License-Identifier: Apache-2.0
"""Encode and decode messages about routes, addresses and neighbours through pyroute2: the only module that
imports it.

pyroute2 has no type hints, so its types do not leave this module. Few commands need these messages and
importing it takes time, so the functions that need this module import it. `codec` has the messages about
devices, which every command reads.
"""

from __future__ import annotations

import socket
from typing import Any

from .links import NeighborEntry, Way
from .messages import ACK, DUMP, REQUEST
from .messages_only import messages_only

with messages_only("pyroute2"):
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ndmsg import ndmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

__all__ = [
    "RTM_NEWADDR",
    "RTM_NEWNEIGH",
    "RTM_NEWROUTE",
    "decode_address",
    "decode_neighbor",
    "decode_route",
    "encode_get_addresses",
    "encode_get_neighbors",
    "encode_get_route",
]

RTM_NEWADDR = 20
RTM_NEWROUTE = 24
RTM_NEWNEIGH = 28
_RTM_GETADDR = 22
_RTM_GETROUTE = 26
_RTM_GETNEIGH = 30

# include/uapi/linux/neighbour.h: states in which an entry's MAC is unknown
_NUD_INCOMPLETE, _NUD_FAILED = 0x01, 0x20


def encode_get_route(destination: str, source: str | None, through: int | None = None) -> bytes:
    """Ask for the route of packets from one address to another, optionally through a given interface."""
    message = rtmsg()
    six = ":" in destination
    message["family"] = socket.AF_INET6 if six else socket.AF_INET
    message["dst_len"] = 128 if six else 32
    message["attrs"] = [["RTA_DST", destination]]
    if source is not None:
        message["src_len"] = message["dst_len"]
        message["attrs"].append(["RTA_SRC", source])
    if through is not None:
        message["attrs"].append(["RTA_OIF", through])
    return _encode(message, _RTM_GETROUTE, ACK)


def decode_route(data: bytes) -> Way | None:
    """The way out according to an RTM_NEWROUTE message; None if it names no interface."""
    message: Any = rtmsg(data)
    message.decode()
    ifindex = message.get_attr("RTA_OIF")
    # RTA_VIA: a gateway of the other address family
    via = message.get_attr("RTA_VIA")
    gateway = message.get_attr("RTA_GATEWAY") or (via.get("addr") if via else None)
    return None if ifindex is None else Way(int(ifindex), gateway, message.get_attr("RTA_PREFSRC"))


def encode_get_addresses(ifindex: int) -> bytes:
    """Dump a device's addresses; kernels before 4.20, without strict checking, dump those of all devices."""
    message = ifaddrmsg()
    message["index"] = ifindex
    return _encode(message, _RTM_GETADDR, DUMP)


def decode_address(data: bytes) -> tuple[int, str]:
    """(ifindex, address with prefix length; empty if not IP)."""
    message: Any = ifaddrmsg(data)
    message.decode()
    if message["family"] not in (socket.AF_INET, socket.AF_INET6):
        return message["index"], ""
    # On a point-to-point link, IFA_ADDRESS is the other end.
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return message["index"], f"{address}/{message['prefixlen']}"


def encode_get_neighbors(ifindex: int) -> bytes:
    """Dump a device's neighbour table (kernel 4.4 and later; older ones dump those of all devices)."""
    message = ndmsg()
    message["attrs"] = [["NDA_IFINDEX", ifindex]]
    return _encode(message, _RTM_GETNEIGH, DUMP)


def decode_neighbor(data: bytes) -> tuple[int, NeighborEntry | None]:
    """(ifindex, entry); None for one without a MAC."""
    message: Any = ndmsg(data)
    message.decode()
    address, mac = message.get_attr("NDA_DST"), message.get_attr("NDA_LLADDR")
    usable = message["family"] in (socket.AF_INET, socket.AF_INET6) and address and mac
    if not usable or message["state"] & (_NUD_INCOMPLETE | _NUD_FAILED):
        return message["ifindex"], None
    return message["ifindex"], NeighborEntry(str(address), str(mac))


def _encode(message: Any, kind: int, flags: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = REQUEST | flags
    message.encode()
    return bytes(message.data)
