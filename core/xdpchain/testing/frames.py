# SPDX-License-Identifier: Apache-2.0
"""The playground's two hosts, and the frames that they exchange. Pure: nothing is sent here."""

from __future__ import annotations

from xdpchain.trial.packets.frames import (
    Host,
    Version,
    arp_request,
    checksum,
    ethernet,
    icmp_echo,
    neighbor_solicitation,
    tcp_syn,
    udp,
)

__all__ = [
    "NEAR",
    "PEER",
    "Host",
    "Version",
    "arp_request",
    "checksum",
    "ethernet",
    "icmp_echo",
    "neighbor_solicitation",
    "scripted",
    "tcp_syn",
    "udp",
]

ETH_P_LOCAL_EXPERIMENT = 0x88B5  # IEEE 802 - Local Experimental Ethertype 1

NEAR = Host.number(1)  # the interface under test has this MAC
PEER = Host.number(2)  # the other end of its veth pair


def scripted(codes: bytes, *, source: Host = PEER, destination: Host = NEAR, length: int = 60) -> bytes:
    """A frame for the sample ``scripted``: byte N of ``codes`` is what its program scripted_N returns."""
    if len(codes) > length - 14:
        raise ValueError(f"{len(codes)} codes do not fit in a frame of {length} bytes")
    return ethernet(source, destination, ETH_P_LOCAL_EXPERIMENT, codes.ljust(length - 14, b"\0"))
