# SPDX-License-Identifier: Apache-2.0
"""Typed netlink: a namespace's network devices, their XDP hooks, and changes to them.

Sockets, AF_XDP sockets, tunnels and tc's filters are in separate modules, because few commands need them.
"""

from __future__ import annotations

from .events import LinkChanges, LinkEvents
from .links import TUNNELS, Channels, LinkInfo, LinkStats, NeighborEntry, Offload, Way, XdpAttachment, XdpMode
from .opening import reuse_sockets
from .refusals import HookBusy, ModeConflict, MtuTooLarge, NoNativeXdp
from .session import Netlink

__all__ = [
    "TUNNELS",
    "Channels",
    "HookBusy",
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
    "Way",
    "XdpAttachment",
    "XdpMode",
    "reuse_sockets",
]
