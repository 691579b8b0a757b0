# SPDX-License-Identifier: Apache-2.0
"""The built-in set: one packet of each kind that a host needs and that XDP programs distinguish.

The interface receives them, so their destination is its own address if it has one. Devices that carry bare IP
get fewer: no ARP, no neighbor discovery, no frames of other protocols.
"""

from __future__ import annotations

from xdpchain.model.link_layer import LinkLayer, Start

from .frames import (
    ACK,
    SYN,
    Host,
    arp_reply,
    arp_request,
    dhcp_reply,
    dns_response,
    ethernet,
    icmp_echo,
    ip_of,
    neighbor_advertisement,
    neighbor_solicitation,
    router_advertisement,
    tcp,
    udp,
)
from .packet import Packet

__all__ = ["builtin"]

LEAST = 60
"""Shortest Ethernet frame in bytes, without its FCS: NICs deliver the padding."""

ETH_P_LOCAL_EXPERIMENT = 0x88B5
PING = bytes(range(0x10, 0x40))
ETHERNET_ONLY = ("ARP", "DHCP", "ICMPv6 neighbor", "unknown protocol")
"""Name prefixes of packets that only devices with link-layer addresses receive."""


def builtin(near: Host, peer: Host, layer: LinkLayer) -> tuple[Packet, ...]:
    """The packets that ``peer`` sends to the interface ``near``, in a plausible order."""
    frames = (
        ("ARP request", arp_request(peer, near)),
        ("ARP reply", arp_reply(peer, near)),
        ("DHCP offer", dhcp_reply(peer, near, 2)),
        ("DHCP ack", dhcp_reply(peer, near, 5)),
        ("ICMP echo request", icmp_echo(peer, near, payload=PING)),
        ("ICMP echo reply", icmp_echo(peer, near, payload=PING, reply=True)),
        ("DNS response", dns_response(peer, near)),
        ("TCP SYN to port 22", tcp(peer, near, 22, SYN)),
        ("TCP SYN to port 80", tcp(peer, near, 80, SYN)),
        ("TCP SYN/ACK from port 443", tcp(peer, near, 40000, SYN | ACK, source_port=443, acknowledges=1)),
        ("UDP to port 9", udp(peer, near, 9, payload=bytes(18))),
        ("UDP to port 9, 1400 bytes", udp(peer, near, 9, payload=bytes(1400 - 42))),
        ("ICMPv6 neighbor solicitation", neighbor_solicitation(peer, near)),
        ("ICMPv6 neighbor advertisement", neighbor_advertisement(peer, near)),
        ("ICMPv6 router advertisement", router_advertisement(peer)),
        ("ICMPv6 echo request", icmp_echo(peer, near, payload=PING, version=6)),
        ("IPv6 DNS response", dns_response(peer, near, version=6)),
        ("IPv6 TCP SYN to port 80", tcp(peer, near, 80, SYN, version=6)),
        ("IPv6 UDP to port 9", udp(peer, near, 9, payload=bytes(18), version=6)),
        ("unknown protocol", ethernet(peer, near, ETH_P_LOCAL_EXPERIMENT, bytes(46))),
    )
    if layer.start is Start.IP:
        return tuple(
            Packet(name, ip_of(frame)) for name, frame in frames if not name.startswith(ETHERNET_ONLY)
        )
    return tuple(Packet(name, frame.ljust(LEAST, b"\0")) for name, frame in frames)
