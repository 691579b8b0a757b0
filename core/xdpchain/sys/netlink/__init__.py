# SPDX-License-Identifier: Apache-2.0
"""Typed netlink: the network devices of a namespace, their XDP hooks, and what changes on them."""

from __future__ import annotations

from .events import LinkChanges, LinkEvents
from .links import Channels, LinkInfo, LinkStats, NeighborEntry, Offload, Way, XdpAttachment, XdpMode
from .refusals import HookBusy, ModeConflict, MtuTooLarge, NoNativeXdp
from .session import Netlink
from .sockets import Socket, list_sockets, list_sockets_at
from .traffic_control import EGRESS, INGRESS, Filter
from .tunnels import TUNNELS, IpsecPolicy, IpsecState, Tunnel, WireguardPeer
from .xdp_sockets import XdpSocket, list_xdp_sockets

__all__ = [
    "EGRESS",
    "INGRESS",
    "TUNNELS",
    "Channels",
    "Filter",
    "HookBusy",
    "IpsecPolicy",
    "IpsecState",
    "LinkChanges",
    "LinkEvents",
    "LinkInfo",
    "LinkStats",
    "ModeConflict",
    "MtuTooLarge",
    "NeighborEntry",
    "Netlink",
    "NoNativeXdp",
    "Offload",
    "Socket",
    "Tunnel",
    "Way",
    "WireguardPeer",
    "XdpAttachment",
    "XdpMode",
    "XdpSocket",
    "list_sockets",
    "list_sockets_at",
    "list_xdp_sockets",
]
