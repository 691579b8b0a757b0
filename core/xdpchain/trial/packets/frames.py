# SPDX-License-Identifier: Apache-2.0
"""Build Ethernet frames byte by byte, with valid checksums. Pure: nothing is sent.

Frames are not padded to Ethernet's 60 bytes: a veth pair carries them unchanged, so an XDP program at its
other end sees exactly ``len(frame)`` bytes.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from xdpchain.frozen import frozen

__all__ = [
    "ACK",
    "PSH",
    "SYN",
    "Host",
    "Version",
    "arp_reply",
    "arp_request",
    "checksum",
    "dhcp_reply",
    "dns_response",
    "ethernet",
    "icmp_echo",
    "ip",
    "ip_of",
    "neighbor_advertisement",
    "neighbor_solicitation",
    "router_advertisement",
    "tagged",
    "tcp",
    "tcp_syn",
    "udp",
]

ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
ETH_P_8021Q = 0x8100

IPPROTO_ICMP = 1
IPPROTO_TCP = 6
IPPROTO_UDP = 17
IPPROTO_ICMPV6 = 58

SYN, PSH, ACK = 0x02, 0x08, 0x10
BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")

Version = Literal[4, 6]


@frozen
class Host:
    """A sender or receiver: one MAC, one IPv4 and one IPv6 address."""

    mac: bytes
    ipv4: IPv4Address
    ipv6: IPv6Address

    @staticmethod
    def number(number: int) -> Host:
        """The host with this number, 1 to 254. Each has its own addresses, from the documentation ranges
        (RFC 5737, RFC 3849), and a locally administered MAC.
        """
        if not 1 <= number <= 254:
            raise ValueError(f"host number {number} is out of range (1 to 254)")
        return Host(
            mac=bytes((0x02, 0x78, 0x64, 0x70, 0x00, number)),
            ipv4=IPv4Address("192.0.2.0") + number,
            ipv6=IPv6Address("2001:db8::") + number,
        )


def checksum(data: bytes) -> int:
    """The 16-bit Internet checksum (RFC 1071); 0 for data that includes its correct checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: Host, destination: Host, ethertype: int, payload: bytes = b"") -> bytes:
    """An Ethernet II frame without padding and frame check sequence."""
    return destination.mac + source.mac + struct.pack("!H", ethertype) + payload


def ip_of(frame: bytes) -> bytes:
    """The IP packet in an untagged frame, for devices without Ethernet headers."""
    return frame[14:]


def arp_request(source: Host, wanted: Host) -> bytes:
    """A broadcast "who has" for the IPv4 address of ``wanted``."""
    payload = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, 1)
    payload += source.mac + source.ipv4.packed + bytes(6) + wanted.ipv4.packed
    return BROADCAST + source.mac + struct.pack("!H", ETH_P_ARP) + payload


def arp_reply(source: Host, destination: Host) -> bytes:
    """``source`` tells ``destination`` its own MAC."""
    payload = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, 2)
    payload += source.mac + source.ipv4.packed + destination.mac + destination.ipv4.packed
    return ethernet(source, destination, ETH_P_ARP, payload)


def tagged(frame: bytes, vlan: int) -> bytes:
    """The frame with an 802.1Q tag, VLAN 0 to 4094."""
    return frame[:12] + struct.pack("!HH", ETH_P_8021Q, vlan) + frame[12:]


def udp(
    source: Host,
    destination: Host,
    destination_port: int,
    *,
    source_port: int = 40000,
    payload: bytes = b"",
    version: Version = 4,
) -> bytes:
    """One UDP datagram."""
    header = struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0)
    sum_ = _transport_checksum(source, destination, IPPROTO_UDP, header + payload, version)
    # 0 means "no checksum" in UDP; its other form, all ones, means 0 (RFC 768)
    segment = header[:6] + struct.pack("!H", sum_ or 0xFFFF) + payload
    return ip(source, destination, IPPROTO_UDP, segment, version)


def tcp(
    source: Host,
    destination: Host,
    destination_port: int,
    flags: int,
    *,
    source_port: int = 40000,
    sequence: int = 1,
    acknowledges: int = 0,
    options: bytes = b"",
    payload: bytes = b"",
    service: int = 0,
    version: Version = 4,
) -> bytes:
    """One TCP segment. ``options`` must be a multiple of 4 bytes; ``service`` is the whole TOS or traffic
    class byte.
    """
    offset = (20 + len(options)) // 4 << 4
    header = struct.pack(
        "!HHIIBBHHH", source_port, destination_port, sequence, acknowledges, offset, flags, 64240, 0, 0
    )
    segment = header + options + payload
    sum_ = _transport_checksum(source, destination, IPPROTO_TCP, segment, version)
    segment = segment[:16] + struct.pack("!H", sum_) + segment[18:]
    return ip(source, destination, IPPROTO_TCP, segment, version, service)


def tcp_syn(
    source: Host,
    destination: Host,
    destination_port: int,
    *,
    source_port: int = 40000,
    sequence: int = 1,
    version: Version = 4,
) -> bytes:
    """The first segment of a TCP connection, without options."""
    to = destination_port
    return tcp(source, destination, to, SYN, source_port=source_port, sequence=sequence, version=version)


def dhcp_reply(server: Host, client: Host, kind: int) -> bytes:
    """A DHCP server's broadcast reply (RFC 2131): ``kind`` 2 is an offer, 5 an ack."""
    head = struct.pack("!BBBBIHH", 2, 1, 6, 0, 0x78647074, 0, 0x8000)
    head += bytes(4) + client.ipv4.packed + server.ipv4.packed + bytes(4) + client.mac.ljust(16, b"\0")
    options = bytes((53, 1, kind, 54, 4)) + server.ipv4.packed + bytes((51, 4)) + struct.pack("!I", 3600)
    options += bytes((1, 4, 255, 255, 255, 0, 3, 4)) + server.ipv4.packed + b"\xff"
    message = head + bytes(64 + 128) + bytes.fromhex("63825363") + options
    everyone = Host(BROADCAST, IPv4Address("255.255.255.255"), ALL_NODES)
    return udp(server, everyone, 68, source_port=67, payload=message.ljust(300, b"\0"))


def dns_response(server: Host, client: Host, *, version: Version = 4) -> bytes:
    """A response to a query for example.com's address, from port 53."""
    name = b"\x07example\x03com\0"
    question = name + struct.pack("!HH", 1, 1)
    answer = struct.pack("!HHHIH", 0xC00C, 1, 1, 300, 4) + IPv4Address("192.0.2.80").packed
    message = struct.pack("!HHHHHH", 0x7864, 0x8180, 1, 1, 0, 0) + question + answer
    return udp(server, client, 40000, source_port=53, payload=message, version=version)


def icmp_echo(
    source: Host,
    destination: Host,
    *,
    identifier: int = 1,
    sequence: int = 1,
    payload: bytes = b"",
    reply: bool = False,
    version: Version = 4,
) -> bytes:
    """An echo request, or reply: ICMP for version 4, ICMPv6 for version 6."""
    rest = struct.pack("!HH", identifier, sequence) + payload
    if version == 6:
        return _icmpv6(source, destination, 129 if reply else 128, rest)
    kind = 0 if reply else 8
    sum_ = checksum(struct.pack("!BBH", kind, 0, 0) + rest)
    return ip(source, destination, IPPROTO_ICMP, struct.pack("!BBH", kind, 0, sum_) + rest, 4)


def neighbor_solicitation(source: Host, wanted: Host) -> bytes:
    """An IPv6 neighbor solicitation (RFC 4861), unicast to its target."""
    source_link_layer_address = bytes((1, 1)) + source.mac
    return _icmpv6(source, wanted, 135, bytes(4) + wanted.ipv6.packed + source_link_layer_address)


def neighbor_advertisement(source: Host, destination: Host) -> bytes:
    """An IPv6 neighbor advertisement (RFC 4861), solicited and overriding."""
    target_link_layer_address = bytes((2, 1)) + source.mac
    rest = bytes((0x60, 0, 0, 0)) + source.ipv6.packed + target_link_layer_address
    return _icmpv6(source, destination, 136, rest)


def router_advertisement(source: Host) -> bytes:
    """A router advertisement (RFC 4861) of 2001:db8::/64 to all nodes, sent from the link-local address."""
    link_local = Host(source.mac, source.ipv4, _link_local(source.mac))
    everyone = Host(ALL_NODES_MAC, IPv4Address("224.0.0.1"), ALL_NODES)
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0) + IPv6Address("2001:db8::").packed
    rest = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + bytes((1, 1)) + source.mac + prefix
    return _icmpv6(link_local, everyone, 134, rest)


def _link_local(mac: bytes) -> IPv6Address:
    """The link-local address derived from a MAC (RFC 4291, modified EUI-64)."""
    return IPv6Address(
        bytes.fromhex("fe80000000000000") + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    )


def _icmpv6(source: Host, destination: Host, kind: int, rest: bytes) -> bytes:
    header = struct.pack("!BBH", kind, 0, 0)
    sum_ = _transport_checksum(source, destination, IPPROTO_ICMPV6, header + rest, 6)
    return ip(source, destination, IPPROTO_ICMPV6, struct.pack("!BBH", kind, 0, sum_) + rest, 6)


def _transport_checksum(
    source: Host, destination: Host, protocol: int, segment: bytes, version: Version
) -> int:
    if version == 4:
        addresses = source.ipv4.packed + destination.ipv4.packed
        return checksum(addresses + struct.pack("!HH", protocol, len(segment)) + segment)
    addresses = source.ipv6.packed + destination.ipv6.packed
    return checksum(addresses + struct.pack("!II", len(segment), protocol) + segment)


def ip(
    source: Host, destination: Host, protocol: int, payload: bytes, version: Version, service: int = 0
) -> bytes:
    """An IP packet in its frame. ``service`` is the whole TOS or traffic class byte."""
    if version == 4:
        do_not_fragment, ttl = 0x4000, 64
        first = struct.pack("!BBHHHBB", 0x45, service, 20 + len(payload), 0, do_not_fragment, ttl, protocol)
        addresses = source.ipv4.packed + destination.ipv4.packed
        header = first + struct.pack("!H", checksum(first + addresses)) + addresses
        return ethernet(source, destination, ETH_P_IP, header + payload)
    hop_limit = 255 if protocol == IPPROTO_ICMPV6 else 64  # neighbor discovery requires 255
    header = struct.pack("!IHBB", 6 << 28 | service << 20, len(payload), protocol, hop_limit)
    return ethernet(
        source, destination, ETH_P_IPV6, header + source.ipv6.packed + destination.ipv6.packed + payload
    )
