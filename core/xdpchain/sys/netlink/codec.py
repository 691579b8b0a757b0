# SPDX-License-Identifier: Apache-2.0
"""Encode and decode messages about devices (linux/rtnetlink.h) and of generic netlink. Pure.

Every command reads these, and a survey reads thousands, so they don't use pyroute2 (see `neighborhood`).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from .links import TUNNELS, LinkInfo, LinkStats, XdpAttachment, XdpMode
from .messages import ACK, DUMP, HEADER, attribute, attributes, chosen, native, request, text

if TYPE_CHECKING:
    from .tunnels import Tunnel

__all__ = [
    "RTM_NEWLINK",
    "RTM_NEWNSID",
    "RTM_NEWSTATS",
    "decode_family_id",
    "decode_hook",
    "decode_link",
    "decode_name",
    "decode_nsid",
    "decode_stats",
    "decode_xdp_features",
    "encode_get_family",
    "encode_get_link",
    "encode_get_links",
    "encode_get_nsid",
    "encode_get_stats",
    "encode_get_xdp_features",
    "encode_set_xdp",
]

RTM_NEWLINK = 16
RTM_NEWNSID = 88
RTM_NEWSTATS = 92
_RTM_GETLINK = 18
_RTM_SETLINK = 19
_RTM_GETNSID = 90
_RTM_GETSTATS = 94
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_NETDEV_CMD_DEV_GET = 1  # Documentation/netlink/specs/netdev.yaml, kernel 6.3 on

_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change mask
_IF_STATS_MSG = struct.Struct("=B3xII")  # family, index, filter mask
_RTGENMSG = struct.Struct("=B3x")
_GENLMSG = struct.Struct("=BBxx")  # command, version

# include/uapi/linux/if_link.h
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _OPERSTATE, _LINKINFO = 1, 3, 4, 5, 10, 16, 18
_STATS64, _NUM_TX_QUEUES, _NUM_RX_QUEUES, _LINK_NETNSID, _XDP = 23, 31, 32, 37, 43
_EXT_MASK, _ALT_IFNAME = 29, 53
_SKIP_STATS = 1 << 3
_READ = frozenset(
    {
        *(_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _OPERSTATE, _LINKINFO),
        *(_STATS64, _NUM_TX_QUEUES, _NUM_RX_QUEUES, _LINK_NETNSID, _XDP),
    }
)
_INFO = _INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND = 1, 2, 4
_VLAN_ID = 1
_XDP_FD, _XDP_ATTACHED, _XDP_FLAGS, _XDP_PROG_ID, _XDP_EXPECTED_FD = 1, 2, 3, 4, 8
_XDP_PROG_IDS: dict[XdpMode, int] = {"native": 5, "generic": 6, "offload": 7}
_XDP_MODES: dict[int, XdpMode] = {1: "native", 2: "generic", 3: "offload"}
_XDP_READ = (_XDP_ATTACHED, _XDP_PROG_ID, *_XDP_PROG_IDS.values())
_LINK_64 = 1  # IFLA_STATS_LINK_64, a struct rtnl_link_stats64
_STATS = struct.Struct("=8Q")  # the first of struct rtnl_link_stats64
_OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")

# The flags of IFLA_XDP
_UPDATE_IF_NOEXIST = 1 << 0
_REPLACE = 1 << 4
_MODE_FLAGS: dict[XdpMode, int] = {"generic": 1 << 1, "native": 1 << 2, "offload": 1 << 3}

_NSID, _NSID_FD = 1, 3  # linux/net_namespace.h
_FAMILY_ID, _FAMILY_NAME = 1, 2
_DEV_IFINDEX, _DEV_XDP_FEATURES = 1, 3

_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFNAMSIZ = 16


# enum netdev_xdp_act, bit by bit
_XDP_FEATURES = ("basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg")

# For these kinds IFLA_LINK is the other end of a pair; for others the device below (vlan, macvlan, …).
_PAIRS = frozenset({"netkit", "veth", "vxcan"})


def encode_get_links(*, statistics: bool = True) -> bytes:
    """Dump all devices of the namespace."""
    # RTEXT_FILTER_SKIP_STATS, kernel 4.4 (d5566fd72ec1): half of what the kernel would write.
    return request(_RTM_GETLINK, DUMP, _about(0) + attribute(_EXT_MASK, _SKIP_STATS) * (not statistics))


def encode_get_stats() -> bytes:
    """Dump the counters of all devices, and nothing else (kernel 4.7, 10c9ead9f3c6)."""
    return request(_RTM_GETSTATS, DUMP, _IF_STATS_MSG.pack(0, 0, 1 << _LINK_64 - 1))


def encode_get_link(which: int | str) -> bytes:
    """Get one device by index, name or alternative name."""
    if isinstance(which, int):
        body = _about(which)
    else:
        short = len(which.encode()) < _IFNAMSIZ
        body = _about(0) + attribute(_IFNAME if short else _ALT_IFNAME, which)
    return request(_RTM_GETLINK, 0, body)


def encode_set_xdp(ifindex: int, prog_fd: int, mode: XdpMode, expected_fd: int | None) -> bytes:
    """Attach a program (-1: none) to the hook if it holds what is expected: nothing, or the program of
    ``expected_fd``.
    """
    condition = _UPDATE_IF_NOEXIST if expected_fd is None else _REPLACE
    xdp = attribute(_XDP_FD, prog_fd) + attribute(_XDP_FLAGS, _MODE_FLAGS[mode] | condition)
    if expected_fd is not None:
        xdp += attribute(_XDP_EXPECTED_FD, expected_fd)
    return request(_RTM_SETLINK, ACK, _about(ifindex) + attribute(_XDP, xdp, nested=True))


def encode_get_nsid(fd: int) -> bytes:
    """Get the ID that a namespace, given by its descriptor, has here."""
    return request(_RTM_GETNSID, 0, _RTGENMSG.pack(0) + attribute(_NSID_FD, fd))


def decode_nsid(message: bytes) -> int | None:
    """None: it has no ID here, so nothing here refers to it."""
    found = _after(message, _RTGENMSG).get(_NSID)
    return nsid if found is not None and (nsid := _signed(found)) >= 0 else None


def encode_get_family(name: str) -> bytes:
    """Ask generic netlink's controller for a family."""
    return _generic(_GENL_ID_CTRL, 0, _CTRL_CMD_GETFAMILY, attribute(_FAMILY_NAME, name))


def decode_family_id(message: bytes) -> int:
    """The controller's answer: the family's message type."""
    return native(_after(message, _GENLMSG)[_FAMILY_ID])


def encode_get_xdp_features(family: int, ifindex: int | None) -> bytes:
    """Ask for the XDP features of one device's driver, or of all in the namespace."""
    if ifindex is None:
        return _generic(family, DUMP, _NETDEV_CMD_DEV_GET)
    return _generic(family, 0, _NETDEV_CMD_DEV_GET, attribute(_DEV_IFINDEX, ifindex))


def decode_xdp_features(message: bytes) -> tuple[int, frozenset[str]]:
    """(ifindex, names of the feature bits). A bit without a known name is called by its number."""
    found = chosen(message, HEADER.size + _GENLMSG.size, (_DEV_IFINDEX, _DEV_XDP_FEATURES))
    return native(found[_DEV_IFINDEX]), _features(native(found.get(_DEV_XDP_FEATURES)))


@lru_cache(maxsize=64)
def _features(bits: int) -> frozenset[str]:
    return frozenset(
        _XDP_FEATURES[bit] if bit < len(_XDP_FEATURES) else f"bit-{bit}"
        for bit in range(bits.bit_length())
        if bits & (1 << bit)
    )


def decode_name(message: bytes) -> tuple[int, str]:
    """(ifindex, name) of an RTM_NEWLINK message."""
    ifindex = _IFINFOMSG.unpack_from(message, HEADER.size)[2]
    return ifindex, text(chosen(message, HEADER.size + _IFINFOMSG.size, (_IFNAME,))[_IFNAME])


def decode_hook(message: bytes) -> tuple[int, tuple[XdpAttachment, ...]]:
    """(ifindex, programs on the XDP hook) of an RTM_NEWLINK message."""
    ifindex = _IFINFOMSG.unpack_from(message, HEADER.size)[2]
    found = chosen(message, HEADER.size + _IFINFOMSG.size, (_XDP,))
    return ifindex, _attachments(found[_XDP]) if _XDP in found else ()


def decode_stats(message: bytes) -> tuple[int, LinkStats]:
    """(ifindex, counters) of an RTM_NEWSTATS message."""
    ifindex = _IF_STATS_MSG.unpack_from(message, HEADER.size)[1]
    return ifindex, _stats(chosen(message, HEADER.size + _IF_STATS_MSG.size, (_LINK_64,))[_LINK_64])


def decode_link(message: bytes) -> LinkInfo:
    """An RTM_NEWLINK message."""
    _, arphrd, ifindex, flags, _ = _IFINFOMSG.unpack_from(message, HEADER.size)
    found = chosen(message, HEADER.size + _IFINFOMSG.size, _READ)
    info = chosen(found.get(_LINKINFO, b""), 0, _INFO)
    data = info.get(_INFO_DATA, b"")
    kind = text(info.get(_INFO_KIND)) or None
    paired = kind in _PAIRS
    link = native(found[_LINK]) if _LINK in found else None
    operstate = native(found.get(_OPERSTATE))
    mac = found.get(_ADDRESS, b"")
    return LinkInfo(
        ifindex=ifindex,
        name=text(found[_IFNAME]),
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        operstate=_OPERSTATES[operstate] if operstate < len(_OPERSTATES) else "unknown",
        mtu=native(found[_MTU]),
        kind=kind,
        address=mac.hex(":") if len(mac) == 6 else None,
        peer_ifindex=link if paired else None,
        peer_netnsid=_signed(found[_LINK_NETNSID]) if paired and _LINK_NETNSID in found else None,
        num_rx_queues=native(found.get(_NUM_RX_QUEUES), 1),
        num_tx_queues=native(found.get(_NUM_TX_QUEUES), 1),
        xdp=_attachments(found[_XDP]) if _XDP in found else (),
        stats=_stats(found[_STATS64]),
        master=native(found[_MASTER]) if _MASTER in found else None,
        slave_kind=text(info.get(_INFO_SLAVE_KIND)) or None,
        lower=None if paired else link,
        vlan=_vlan(data) if kind == "vlan" else None,
        arphrd=arphrd,
        tunnel=_tunnel(kind, data) if kind in TUNNELS else None,
    )


def _stats(value: bytes) -> LinkStats:
    rx, tx, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped = _STATS.unpack_from(value)
    return LinkStats(rx, rx_bytes, rx_errors, rx_dropped, tx, tx_bytes, tx_errors, tx_dropped)


def _about(ifindex: int) -> bytes:
    return _IFINFOMSG.pack(0, 0, ifindex, 0, 0)


def _generic(family: int, flags: int, command: int, body: bytes = b"") -> bytes:
    return request(family, flags, _GENLMSG.pack(command, 1) + body)


def _after(message: bytes, head: struct.Struct) -> dict[int, bytes]:
    """The attributes after a message's fixed part."""
    return dict(attributes(message, HEADER.size + head.size))


def _signed(value: bytes) -> int:
    return int(struct.unpack("=i", value)[0])


def _vlan(data: bytes) -> int | None:
    found = dict(attributes(data)).get(_VLAN_ID)
    return None if found is None else native(found)


def _tunnel(kind: str, data: bytes) -> Tunnel:
    from .tunnels import decode_tunnel

    return decode_tunnel(kind, data)


def _attachments(data: bytes) -> tuple[XdpAttachment, ...]:
    xdp = chosen(data, 0, _XDP_READ)
    found = tuple(
        XdpAttachment(mode, prog_id)
        for mode, kind in _XDP_PROG_IDS.items()
        if (prog_id := native(xdp.get(kind)))
    )
    if found:
        return found
    # before 4.19 there is only one ID, for the mode in force
    mode, prog_id = _XDP_MODES.get(native(xdp.get(_XDP_ATTACHED))), native(xdp.get(_XDP_PROG_ID))
    return (XdpAttachment(mode, prog_id),) if mode and prog_id else ()
