# SPDX-License-Identifier: Apache-2.0
"""Describe a packet in a few words, for captured packets, which have no names. Pure."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from xdpchain.model.link_layer import LinkLayer, Start

__all__ = ["describe", "flow"]

ETHERTYPES = {0x0806: "ARP", 0x88CC: "LLDP", 0x8847: "MPLS", 0x8863: "PPPoE", 0x8864: "PPPoE"}
VLAN = {0x8100, 0x88A8}
PROTOCOLS = {1: "ICMP", 2: "IGMP", 47: "GRE", 50: "ESP", 58: "ICMPv6", 89: "OSPF", 132: "SCTP"}
ICMP = {0: "echo reply", 3: "unreachable", 8: "echo request", 11: "time exceeded"}
ICMPV6 = {
    1: "unreachable", 2: "packet too big", 128: "echo request", 129: "echo reply", 133: "router solicitation",
    134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement",
    143: "MLD report",
}  # fmt: skip
FLAGS = ((0x02, "SYN"), (0x01, "FIN"), (0x04, "RST"), (0x10, "ACK"))


def describe(frame: bytes, layer: LinkLayer) -> str:
    """For example "TCP 192.0.2.9:50022 > 22 SYN": source, destination port and kind. ``layer`` is the link
    layer of the packet's device.
    """
    if not layer.known:
        return f"a packet of {layer.name}"
    kind, payload, vlan = _network(frame, layer)
    tag = f"VLAN {vlan} " if vlan is not None else ""
    if kind == 0x0806 and len(payload) >= 28:
        sender, target = IPv4Address(payload[14:18]), IPv4Address(payload[24:28])
        operation = struct.unpack_from("!H", payload, 6)[0]
        return f"{tag}ARP {'reply from' if operation == 2 else f'{target} asked by'} {sender}"
    transport = _transport(kind, payload)
    if transport is None:
        if layer.start is Start.IP and not kind:
            return "not an IP packet"
        return f"{tag}{ETHERTYPES.get(kind, f'ethertype {kind:#06x}')}"
    protocol, source, _, segment = transport
    if protocol in (6, 17) and len(segment) >= 8:
        ports = struct.unpack_from("!HH", segment)
        name = "TCP" if protocol == 6 else "UDP"
        flags = _flags(segment) if protocol == 6 and len(segment) >= 14 else ""
        at = f"[{source}]" if isinstance(source, IPv6Address) else f"{source}"
        return f"{tag}{name} {at}:{ports[0]} > {ports[1]}{flags}"
    what = PROTOCOLS.get(protocol, f"IP protocol {protocol}")
    words = {1: ICMP, 58: ICMPV6}.get(protocol, {}).get(segment[0], "") if segment else ""
    return f"{tag}{what} {words}{' ' * bool(words)}from {source}"


def flow(frame: bytes, layer: LinkLayer) -> tuple[object, ...] | None:
    """What a receiver uses: destination MAC (if any), VLAN, addresses, protocol and the segment, for TCP and
    UDP with the checksum zeroed. None if it is not a whole IP packet.
    """
    kind, payload, vlan = _network(frame, layer)
    transport = _transport(kind, payload)
    if transport is None:
        return None
    protocol, source, destination, segment = transport
    if protocol == 6 and len(segment) >= 20:
        segment = segment[:16] + bytes(2) + segment[18:]
    elif protocol == 17 and len(segment) >= 8:
        segment = segment[:6] + bytes(2) + segment[8:]
    mac = frame[:6] if layer.start is Start.ETHERNET else b""
    return mac, vlan, source, destination, protocol, segment


def _flags(segment: bytes) -> str:
    names = "/".join(name for bit, name in FLAGS if segment[13] & bit)
    return f" {names}" if names else ""


def _network(frame: bytes, layer: LinkLayer) -> tuple[int, bytes, int | None]:
    """Ethertype (0: none), payload, and the (outermost) VLAN."""
    if layer.start is Start.IP:
        return {4: 0x0800, 6: 0x86DD}.get(frame[0] >> 4, 0) if frame else 0, frame, None
    vlan, at = None, 12
    while at + 2 <= len(frame):
        kind = int.from_bytes(frame[at : at + 2], "big")
        if kind not in VLAN or at + 4 > len(frame):
            return kind, frame[at + 2 :], vlan
        if vlan is None:
            vlan = int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF
        at += 4
    return 0, b"", vlan


def _transport(
    kind: int, packet: bytes
) -> tuple[int, IPv4Address | IPv6Address, IPv4Address | IPv6Address, bytes] | None:
    """Protocol, addresses, and the segment without Ethernet padding. IPv6 extensions are not parsed."""
    if kind == 0x0800 and len(packet) >= 20 and packet[0] >> 4 == 4:
        header, total = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 2)[0]
        ends = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        fragment = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
        return packet[9], *ends, b"" if fragment else packet[header : max(total, header)]
    if kind == 0x86DD and len(packet) >= 40 and packet[0] >> 4 == 6:
        length = struct.unpack_from("!H", packet, 4)[0]
        return packet[6], IPv6Address(packet[8:24]), IPv6Address(packet[24:40]), packet[40 : 40 + length]
    return None
