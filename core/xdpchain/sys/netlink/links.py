# SPDX-License-Identifier: Apache-2.0
"""The kernel's information about a network device: frozen values, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from .tunnels import Tunnel

__all__ = [
    "TUNNELS",
    "Channels",
    "LinkInfo",
    "LinkStats",
    "NeighborEntry",
    "Offload",
    "Way",
    "XdpAttachment",
    "XdpMode",
]

TUNNELS = frozenset(
    {
        "bareudp", "erspan", "fou", "geneve", "gre", "gretap", "gtp", "ip6erspan", "ip6gre", "ip6gretap",
        "ip6tnl", "ipip", "l2tp", "ovpn", "sit", "vti", "vti6", "vxlan", "wireguard", "xfrm",
    }
)  # fmt: skip
"""Kinds of devices whose packets arrive encapsulated, through another device."""

XdpMode: TypeAlias = Literal["native", "generic", "offload"]


class XdpAttachment(NamedTuple):
    """A program on a device's XDP hook. Whether by netlink or bpf_link is not visible here."""

    mode: XdpMode
    prog_id: int


class LinkStats(NamedTuple):
    """The device's own counters since it was created (struct rtnl_link_stats64); packets and bytes.

    Whether they include packets that XDP dropped, sent or redirected depends on the driver.
    """

    rx_packets: int
    rx_bytes: int
    rx_errors: int
    rx_dropped: int
    tx_packets: int
    tx_bytes: int
    tx_errors: int
    tx_dropped: int


class LinkInfo(NamedTuple):
    """A network device at the time of the query.

    ``up`` is the administrative state (IFF_UP), ``carrier`` the link's (IFF_LOWER_UP); ``operstate`` is RFC
    2863's term in lower case. ``kind`` is rtnetlink's name of a virtual device's type ("veth", "bridge", …),
    None for hardware and loopback. ``address`` is a MAC address, None for devices without one.
    ``peer_ifindex`` is the other end of a pair, and ``peer_netnsid`` the kernel's local ID of the namespace
    that the index belongs to (None: this one). ``xdp`` is in the order native, generic, offload; more than
    one entry means native or generic plus offload. ``master`` is the bridge, bond or team that it belongs to,
    ``slave_kind`` its kind; ``lower`` is the device below a VLAN, macvlan and the like; ``vlan`` is a VLAN
    device's VLAN ID. ``arphrd`` is the device type (ARPHRD_*), which determines how its packets begin;
    ``tunnel`` says how a device of one of the kinds `TUNNELS` encapsulates packets.
    """

    ifindex: int
    name: str
    up: bool
    carrier: bool
    operstate: str
    mtu: int
    kind: str | None
    address: str | None
    peer_ifindex: int | None
    peer_netnsid: int | None
    num_rx_queues: int
    num_tx_queues: int
    xdp: tuple[XdpAttachment, ...]
    stats: LinkStats
    master: int | None = None
    slave_kind: str | None = None
    lower: int | None = None
    vlan: int | None = None
    arphrd: int = 1
    tunnel: Tunnel | None = None

    def program(self, mode: XdpMode) -> int | None:
        """The ID of the program that runs in this mode."""
        return next((attachment.prog_id for attachment in self.xdp if attachment.mode == mode), None)


class Way(NamedTuple):
    """How packets to a destination leave: by which interface, to which gateway (None: directly), and from
    which of our addresses, if the route says so.
    """

    ifindex: int
    gateway: str | None
    source: str | None = None


class NeighborEntry(NamedTuple):
    """An address in the neighbor table (ARP, ND), with its MAC."""

    address: str
    mac: str


class Channels(NamedTuple):
    """A device's queues (struct ethtool_channels): current and maximum numbers. A combined channel receives
    and sends.
    """

    max_rx: int
    max_tx: int
    max_combined: int
    rx: int
    tx: int
    combined: int


class Offload(NamedTuple):
    """A device feature by ethtool's name ("rx-lro"): whether it is on, and whether it can't be changed."""

    name: str
    on: bool
    fixed: bool
