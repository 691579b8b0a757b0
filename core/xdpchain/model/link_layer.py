# SPDX-License-Identifier: Apache-2.0
"""How packets begin on a device, by its type (ARPHRD_*): the one table for trials, the guard, following and
captures. Pure.

Measured by XDP programs that recorded what they saw, on kernels 5.10, 6.1 and 6.18: devices that carry bare
IP hand over the packet from its IP header on. They know generic mode only, which begins at the MAC header
that the kernel noted. Before 5.14 IP tunnels noted the outer packet's, so that programs there see the outer
headers first (GRE: from the outer IP header, the others: from the outer Ethernet header).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum

__all__ = ["ARPHRD_ETHER", "BARE_IP", "ETHERNET", "LinkLayer", "Start", "link_layer"]

ARPHRD_ETHER = 1


class Start(Enum):
    """What a packet begins with."""

    ETHERNET = "an Ethernet header"
    IP = "an IP header"
    UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class LinkLayer:
    """What an XDP program on a device finds first. ``dlt`` is libpcap's number for it on Linux, ``link_type``
    the one in capture files (LINKTYPE_*, where raw IP has another).
    """

    name: str
    start: Start
    dlt: int
    link_type: int

    @property
    def known(self) -> bool:
        """Whether packets can be built, read and filtered."""
        return self.start is not Start.UNKNOWN

    @property
    def header(self) -> int:
        """Bytes before the IP header of a packet without tags."""
        return 14 if self.start is Start.ETHERNET else 0


ETHERNET = LinkLayer("Ethernet", Start.ETHERNET, 1, 1)
BARE_IP = LinkLayer("bare IP", Start.IP, 12, 101)
_USER0 = 147
"""LINKTYPE_USER0 and DLT_USER0: for whoever writes and reads the file to know."""

# include/uapi/linux/if_arp.h
_LAYERS = {
    ARPHRD_ETHER: ETHERNET,
    772: ETHERNET,  # ARPHRD_LOOPBACK: a header of zeros, and the type
    512: BARE_IP,  # ARPHRD_PPP: PPP's own header is off by then
    519: BARE_IP,  # ARPHRD_RAWIP: modems
    768: BARE_IP,  # ARPHRD_TUNNEL: IPIP, VTI
    769: BARE_IP,  # ARPHRD_TUNNEL6
    776: BARE_IP,  # ARPHRD_SIT
    778: BARE_IP,  # ARPHRD_IPGRE
    823: BARE_IP,  # ARPHRD_IP6GRE
    0xFFFE: BARE_IP,  # ARPHRD_NONE: tun, WireGuard, XFRM interfaces, modems (qmi_wwan)
}


_IP_TUNNELS = frozenset({768, 769, 776, 778, 823})
_RESETS = (5, 14)
"""The kernel from which on IP tunnels note where the inner packet begins (skb_reset_mac_header)."""
_IPSEC = frozenset({"vti", "vti6", "xfrm"})


def link_layer(arphrd: int, kind: str | None = None, release: str | None = None) -> LinkLayer:
    """The layer of a device of that type and rtnetlink kind, on a kernel of that release (None: the running
    one). For what nobody tried, and where programs see outer headers first, one that is not
    `LinkLayer.known`.
    """
    found = _LAYERS.get(arphrd)
    if found is None:
        return _unknown(f"link type {arphrd}")
    if kind in _IPSEC:
        return _unknown(f"{kind}, where packets keep part of the outer headers")
    if arphrd in _IP_TUNNELS and _version(release or os.uname().release) < _RESETS:
        return _unknown(f"link type {arphrd}, where kernels before 5.14 show the outer headers first")
    return found


def _unknown(name: str) -> LinkLayer:
    return LinkLayer(name, Start.UNKNOWN, _USER0, _USER0)


def _version(release: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
