# SPDX-License-Identifier: Apache-2.0
"""What packets start with on a device, by its type (ARPHRD_*): the only table for trials, the guard,
following and captures. Pure.

Measured with XDP programs on kernels 5.10, 6.1 and 6.18: devices that carry bare IP deliver packets from the
IP header on. They only support generic mode, which starts at the MAC header recorded by the kernel. Before
5.14, IP tunnels recorded the outer packet's, so programs there see outer headers first (GRE: from the outer
IP header, others: from the outer Ethernet header).
"""

from __future__ import annotations

import os
import re
from enum import Enum

from xdpchain.frozen import frozen

__all__ = ["ARPHRD_ETHER", "BARE_IP", "ETHERNET", "LinkLayer", "Start", "link_layer"]

ARPHRD_ETHER = 1


class Start(Enum):
    """What a packet starts with."""

    ETHERNET = "an Ethernet header"
    IP = "an IP header"
    UNKNOWN = "?"


@frozen
class LinkLayer:
    """What an XDP program on a device sees first. ``dlt`` is libpcap's number for it on Linux, ``link_type``
    that in capture files (LINKTYPE_*, which differs for raw IP).
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
        """Bytes before the IP header of an untagged packet."""
        return 14 if self.start is Start.ETHERNET else 0


ETHERNET = LinkLayer("Ethernet", Start.ETHERNET, 1, 1)
BARE_IP = LinkLayer("bare IP", Start.IP, 12, 101)
_USER0 = 147
"""LINKTYPE_USER0 and DLT_USER0: a private type, known only to the writer and reader of the file."""

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
"""The first kernel in which IP tunnels record the start of the inner packet (skb_reset_mac_header)."""
_IPSEC = frozenset({"vti", "vti6", "xfrm"})


def link_layer(arphrd: int, kind: str | None = None, release: str | None = None) -> LinkLayer:
    """The link layer of a device with this type and rtnetlink kind, on a kernel release (None: the running
    one). It is not `LinkLayer.known` for untested types, and where programs see outer headers first.
    """
    layer = _LAYERS.get(arphrd)
    if layer is None:
        return _unknown(f"link type {arphrd}")
    if kind in _IPSEC:
        return _unknown(f"{kind}, where packets keep part of the outer headers")
    if arphrd in _IP_TUNNELS and _version(release or os.uname().release) < _RESETS:
        return _unknown(f"link type {arphrd}, where kernels before 5.14 show the outer headers first")
    return layer


def _unknown(name: str) -> LinkLayer:
    return LinkLayer(name, Start.UNKNOWN, _USER0, _USER0)


def _version(release: str) -> tuple[int, ...]:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
