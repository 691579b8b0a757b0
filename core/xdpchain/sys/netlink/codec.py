# SPDX-License-Identifier: Apache-2.0
"""Netlink messages to and from our values, through pyroute2: the only module that imports it.

pyroute2 has no type hints: nothing of it leaves this module. Importing it takes a while, so this module is
imported inside the functions that need it.
"""

from __future__ import annotations

import socket
import struct
import sys
from functools import lru_cache
from typing import Any

from .messages_only import messages_only

with messages_only("pyroute2"):
    from pyroute2.netlink import ctrlmsg, genlmsg, nlmsgerr
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.ndmsg import ndmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

from .links import LinkInfo, LinkStats, NeighborEntry, Way, XdpAttachment, XdpMode
from .tunnels import TUNNELS, attributes, decode_tunnel

__all__ = [
    "RTM_NEWADDR",
    "RTM_NEWLINK",
    "RTM_NEWNEIGH",
    "RTM_NEWNSID",
    "RTM_NEWROUTE",
    "ack_text",
    "decode_address",
    "decode_family_id",
    "decode_link",
    "decode_neighbor",
    "decode_nsid",
    "decode_route",
    "decode_xdp_features",
    "encode_get_addresses",
    "encode_get_family",
    "encode_get_link",
    "encode_get_links",
    "encode_get_neighbors",
    "encode_get_nsid",
    "encode_get_route",
    "encode_get_xdp_features",
    "encode_set_xdp",
]

RTM_NEWLINK = 16
RTM_NEWADDR = 20
RTM_NEWROUTE = 24
RTM_NEWNEIGH = 28
RTM_NEWNSID = 88
_RTM_GETLINK = 18
_RTM_SETLINK = 19
_RTM_GETADDR = 22
_RTM_GETROUTE = 26
_RTM_GETNEIGH = 30
_RTM_GETNSID = 90
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
# Documentation/netlink/specs/netdev.yaml, kernel 6.3 on
_NETDEV_CMD_DEV_GET, _DEV_IFINDEX, _DEV_XDP_FEATURES = 1, 1, 3
_GENERIC_BODY = 20  # nlmsghdr + genlmsghdr

_NETNSA_NSID, _NETNSA_FD = 1, 3

_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_DUMP = 0x300

_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFNAMSIZ = 16

# include/uapi/linux/if_link.h: the flags of IFLA_XDP
_XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
_XDP_FLAGS_REPLACE = 1 << 4
_XDP_FLAGS_MODE: dict[XdpMode, int] = {"generic": 1 << 1, "native": 1 << 2, "offload": 1 << 3}

_XDP_PROG_ID: dict[XdpMode, int] = {"native": 5, "generic": 6, "offload": 7}
_XDP_ATTACHED: dict[int, XdpMode] = {1: "native", 2: "generic", 3: "offload"}
_XDP_FD, _XDP_IS_ATTACHED, _XDP_FLAGS, _XDP_THE_PROG_ID, _XDP_EXPECTED_FD = 1, 2, 3, 4, 8
_NESTED = 1 << 15

# include/uapi/linux/neighbour.h: states in which the MAC of an entry is not to be had
_NUD_INCOMPLETE, _NUD_FAILED = 0x01, 0x20

# enum netdev_xdp_act, bit by bit
_XDP_FEATURES = ("basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg")

# Kinds whose IFLA_LINK is the other end of a pair; elsewhere it is the device underneath (vlan, macvlan, …).
_PAIRS = frozenset({"netkit", "veth", "vxcan"})

# What decode_link reads: struct ifinfomsg, and the attributes of a link (if_link.h)
_IFINFOMSG = struct.Struct("=2xHiI")  # type, ifindex, flags
_LINK_BODY = 32  # nlmsghdr + ifinfomsg
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _OPERSTATE, _LINKINFO = 1, 3, 4, 5, 10, 16, 18
_LINK_STATS64, _NUM_TX_QUEUES, _NUM_RX_QUEUES, _LINK_NETNSID, _XDP = 23, 31, 32, 37, 43
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _VLAN_ID = 1, 2, 4, 1
_OPERSTATES = dict(enumerate(("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")))
_STATS64 = struct.Struct("=8Q")
_STATS_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # as LinkStats has them
_MAC = 6


class _NetdevMessage(genlmsg):  # type: ignore[misc]
    nla_map = (
        (_DEV_IFINDEX, "NETDEV_A_DEV_IFINDEX", "uint32"),
        (_DEV_XDP_FEATURES, "NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


def encode_get_links() -> bytearray:
    """Dump all devices of the namespace."""
    return _encode(ifinfmsg(), _RTM_GETLINK, _NLM_F_DUMP)


@lru_cache(maxsize=64)
def encode_get_link(which: int | str) -> bytes:
    """Get one device, by index, name or alternative name."""
    message = ifinfmsg()
    if isinstance(which, int):
        message["index"] = which
    else:
        short = len(which.encode()) < _IFNAMSIZ
        message["attrs"] = [["IFLA_IFNAME" if short else "IFLA_ALT_IFNAME", which]]
    return bytes(_encode(message, _RTM_GETLINK, _NLM_F_ACK))


def encode_get_nsid(fd: int) -> bytearray:
    """Ask for the id that a namespace, by its descriptor, has here (linux/net_namespace.h)."""
    body = struct.pack("=B3xHHI", 0, 8, _NETNSA_FD, fd)
    return bytearray(
        struct.pack("=IHHII", 16 + len(body), _RTM_GETNSID, _NLM_F_REQUEST | _NLM_F_ACK, 0, 0) + body
    )


def decode_nsid(message: bytes) -> int | None:
    """None: it has no id here, so nothing here refers to it."""
    at = 20
    while at + 8 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == _NETNSA_NSID:
            number: int = struct.unpack_from("=i", message, at + 4)[0]
            return number if number >= 0 else None
        at += max(4, (length + 3) & ~3)
    return None


def encode_set_xdp(ifindex: int, prog_fd: int, mode: XdpMode, expected_fd: int | None) -> bytearray:
    """Put a program (-1: none) on the hook, if there is what we expect: nothing, or ``expected_fd``'s."""
    condition = _XDP_FLAGS_UPDATE_IF_NOEXIST if expected_fd is None else _XDP_FLAGS_REPLACE
    said = [(_XDP_FD, prog_fd), (_XDP_FLAGS, _XDP_FLAGS_MODE[mode] | condition)]
    if expected_fd is not None:
        said.append((_XDP_EXPECTED_FD, expected_fd))
    nested = b"".join(struct.pack("=HHi", 8, attribute, value) for attribute, value in said)
    body = struct.pack("=4xiIIHH", ifindex, 0, 0, 4 + len(nested), _NESTED | _XDP) + nested
    head = struct.pack("=IHHII", 16 + len(body), _RTM_SETLINK, _NLM_F_REQUEST | _NLM_F_ACK, 0, 0)
    return bytearray(head + body)


def encode_get_route(destination: str, source: str | None, through: int | None = None) -> bytearray:
    """Ask which way packets from one address to another would take, perhaps through a given interface."""
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
    return _encode(message, _RTM_GETROUTE, _NLM_F_ACK)


def decode_route(data: bytes) -> Way | None:
    """Where an RTM_NEWROUTE message says that packets leave; None where it names no interface."""
    message: Any = rtmsg(data)
    message.decode()
    found = message.get_attr("RTA_OIF")
    # RTA_VIA: a gateway of the other address family
    via = message.get_attr("RTA_VIA")
    gateway = message.get_attr("RTA_GATEWAY") or (via.get("addr") if via else None)
    return None if found is None else Way(int(found), gateway, message.get_attr("RTA_PREFSRC"))


def encode_get_addresses(ifindex: int) -> bytearray:
    """Dump the addresses of a device; a kernel before 4.20, without strict checking, dumps those of all."""
    message = ifaddrmsg()
    message["index"] = ifindex
    return _encode(message, _RTM_GETADDR, _NLM_F_DUMP)


def decode_address(data: bytes) -> tuple[int, str]:
    """(ifindex, address with prefix length; empty for other families than IP)."""
    message: Any = ifaddrmsg(data)
    message.decode()
    if message["family"] not in (socket.AF_INET, socket.AF_INET6):
        return message["index"], ""
    # Of a point-to-point link, IFA_ADDRESS is the other end.
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return message["index"], f"{address}/{message['prefixlen']}"


def encode_get_neighbors(ifindex: int) -> bytearray:
    """Dump the neighbour table of a device (kernel 4.4 on; an older one dumps those of all)."""
    message = ndmsg()
    message["attrs"] = [["NDA_IFINDEX", ifindex]]
    return _encode(message, _RTM_GETNEIGH, _NLM_F_DUMP)


def decode_neighbor(data: bytes) -> tuple[int, NeighborEntry | None]:
    """(ifindex, entry); None for one without a MAC."""
    message: Any = ndmsg(data)
    message.decode()
    address, mac = message.get_attr("NDA_DST"), message.get_attr("NDA_LLADDR")
    usable = message["family"] in (socket.AF_INET, socket.AF_INET6) and address and mac
    if not usable or message["state"] & (_NUD_INCOMPLETE | _NUD_FAILED):
        return message["ifindex"], None
    return message["ifindex"], NeighborEntry(str(address), str(mac))


def encode_get_family(name: str) -> bytearray:
    """Ask generic netlink's controller for a family."""
    message = ctrlmsg()
    message["cmd"], message["version"] = _CTRL_CMD_GETFAMILY, 1
    message["attrs"] = [["CTRL_ATTR_FAMILY_NAME", name]]
    return _encode(message, _GENL_ID_CTRL, _NLM_F_ACK)


@lru_cache(maxsize=64)
def encode_get_xdp_features(family: int, ifindex: int | None) -> bytes:
    """Ask what the driver of one device, or of all in the namespace, can do with XDP."""
    message = _NetdevMessage()
    message["cmd"], message["version"] = _NETDEV_CMD_DEV_GET, 1
    if ifindex is None:
        return bytes(_encode(message, family, _NLM_F_DUMP))
    message["attrs"] = [["NETDEV_A_DEV_IFINDEX", ifindex]]
    return bytes(_encode(message, family, _NLM_F_ACK))


def decode_link(data: bytes) -> LinkInfo:
    """An RTM_NEWLINK message. By hand, for it is asked for most often: pyroute2 makes an object of each
    attribute.
    """
    kind_of_device, ifindex, flags = _IFINFOMSG.unpack_from(data, 16)
    found = dict(attributes(data[_LINK_BODY:]))
    info = dict(attributes(found.get(_LINKINFO, b"")))
    kind, details = _text(info.get(_INFO_KIND)), info.get(_INFO_DATA, b"")
    lower, address = _number(found.get(_LINK)), found.get(_ADDRESS, b"")
    stats = _STATS64.unpack_from(found[_LINK_STATS64])
    paired = kind in _PAIRS
    return LinkInfo(
        ifindex=ifindex,
        name=_text(found[_IFNAME]) or "",
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        operstate=_OPERSTATES.get(found[_OPERSTATE][0], "unknown"),
        mtu=_number(found[_MTU]) or 0,
        kind=kind,
        address=address.hex(":") if len(address) == _MAC else None,
        peer_ifindex=lower if paired else None,
        peer_netnsid=_number(found.get(_LINK_NETNSID)) if paired else None,
        num_rx_queues=_number(found.get(_NUM_RX_QUEUES)) or 1,
        num_tx_queues=_number(found.get(_NUM_TX_QUEUES)) or 1,
        xdp=_attachments(found.get(_XDP, b"")),
        stats=LinkStats(*(stats[place] for place in _STATS_ORDER)),
        master=_number(found.get(_MASTER)),
        slave_kind=_text(info.get(_INFO_SLAVE_KIND)),
        lower=None if paired else lower,
        vlan=_vlan(details) if kind == "vlan" else None,
        arphrd=kind_of_device,
        tunnel=decode_tunnel(kind, details) if kind in TUNNELS else None,
    )


def decode_family_id(data: bytes) -> int:
    """The controller's answer: the message type to use for the family."""
    message: Any = ctrlmsg(data)
    message.decode()
    return int(message.get_attr("CTRL_ATTR_FAMILY_ID"))


def decode_xdp_features(data: bytes) -> tuple[int, frozenset[str]]:
    """(ifindex, names of the feature bits). A bit that has no name yet is called by its number."""
    found = dict(attributes(data[_GENERIC_BODY:]))
    bits = int.from_bytes(found.get(_DEV_XDP_FEATURES, b""), sys.byteorder)
    names = (
        _XDP_FEATURES[bit] if bit < len(_XDP_FEATURES) else f"bit-{bit}"
        for bit in range(64)
        if bits & (1 << bit)
    )
    return _number(found[_DEV_IFINDEX]) or 0, frozenset(names)


def ack_text(data: bytes) -> str:
    """The words in an extended ack; empty if the kernel had none."""
    message: Any = nlmsgerr(data)
    message.decode()
    return str(message.get_attr("NLMSGERR_ATTR_MSG") or "")


def _vlan(details: bytes) -> int | None:
    number = dict(attributes(details)).get(_VLAN_ID)
    return None if number is None else int.from_bytes(number[:2], sys.byteorder)


def _number(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value[:4], sys.byteorder, signed=True)


def _text(value: bytes | None) -> str | None:
    """Names need not be UTF-8."""
    return None if value is None else value.split(b"\0", 1)[0].decode(errors="backslashreplace")


def _encode(message: Any, kind: int, flags: int) -> bytearray:
    message["header"]["type"] = kind
    message["header"]["flags"] = _NLM_F_REQUEST | flags
    message.encode()
    return bytearray(message.data)


def _attachments(xdp: bytes) -> tuple[XdpAttachment, ...]:
    said = dict(attributes(xdp))
    found = tuple(
        XdpAttachment(mode, prog_id)
        for mode, attribute in _XDP_PROG_ID.items()
        if (prog_id := _number(said.get(attribute)))
    )
    if found:
        return found
    # Before 4.19 there is one id, for the mode in force.
    mode = _XDP_ATTACHED.get(said.get(_XDP_IS_ATTACHED, b"\0")[0])
    prog_id = _number(said.get(_XDP_THE_PROG_ID))
    return (XdpAttachment(mode, prog_id),) if mode and prog_id else ()
