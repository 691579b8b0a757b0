# SPDX-License-Identifier: Apache-2.0
"""The frames of a trial: one of each kind that XDP programs distinguish, with documentation addresses."""

from __future__ import annotations

from xdpchain.model.link_layer import ETHERNET
from xdpchain.trial.packets.builtin import builtin
from xdpchain.trial.packets.frames import Host

__all__ = ["NAMED_FRAMES"]

KINDS = (
    "ARP request",
    "ICMP echo request",
    "DNS response",
    "TCP SYN to port 22",
    "TCP SYN to port 80",
    "UDP to port 9",
    "UDP to port 9, 1400 bytes",
    "IPv6 UDP to port 9",
    "unknown protocol",
)

NAMED_FRAMES: tuple[tuple[str, bytes], ...] = tuple(
    (packet.name, packet.data)
    for packet in builtin(Host.number(1), Host.number(2), ETHERNET)
    if packet.name in KINDS
)
"""Name and bytes of each frame, from the Ethernet header on."""
