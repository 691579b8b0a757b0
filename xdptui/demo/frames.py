# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames, built byte by byte, with checksums a receiver accepts. Pure: nothing here sends anything.

Frames are not padded to Ethernet's 60 bytes: a veth pair carries them as they are, so an XDP program at its
other end sees exactly ``len(frame)`` bytes. The addresses are those set aside for documentation (RFC 5737,
RFC 3849); the MACs are locally administered.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

__all__ = [
    "NEAR",
    "PEER",
    "Host",
    "arp_request",
    "checksum",
    "ethernet",
    "icmp_echo",
    "neighbor_solicitation",
    "scripted",
    "tcp_syn",
    "udp",
]

ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
ETH_P_LOCAL_EXPERIMENT = 0x88B5  # IEEE 802 - Local Experimental Ethertype 1

IPPROTO_ICMP = 1
IPPROTO_TCP = 6
IPPROTO_UDP = 17
IPPROTO_ICMPV6 = 58

Version = Literal[4, 6]


@dataclass(frozen=True, slots=True)
class Host:
    """Who sends or receives: one MAC, one IPv4 and one IPv6 address."""

    mac: bytes
    ipv4: IPv4Address
    ipv6: IPv6Address

    @staticmethod
    def number(number: int) -> Host:
        """The host of that number, 1 to 254; each number has addresses of its own."""
        if not 1 <= number <= 254:
            raise ValueError(f"a host's number is 1 to 254, not {number}")
        return Host(
            mac=bytes((0x02, 0x78, 0x64, 0x70, 0x00, number)),
            ipv4=IPv4Address("192.0.2.0") + number,
            ipv6=IPv6Address("2001:db8::") + number,
        )


NEAR = Host.number(1)  # the interface under test has this MAC
PEER = Host.number(2)  # the other end of its veth pair


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071), 16 bits; 0 over data that carries its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: Host, destination: Host, ethertype: int, payload: bytes = b"") -> bytes:
    """An Ethernet II frame, without padding and without the frame check sequence."""
    return destination.mac + source.mac + struct.pack("!H", ethertype) + payload


def arp_request(source: Host, wanted: Host) -> bytes:
    """Who has the IPv4 address of ``wanted``? Sent to everyone."""
    payload = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, 1)
    payload += source.mac + source.ipv4.packed + bytes(6) + wanted.ipv4.packed
    return b"\xff" * 6 + source.mac + struct.pack("!H", ETH_P_ARP) + payload


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
    return _ip(source, destination, IPPROTO_UDP, segment, version)


def tcp_syn(
    source: Host,
    destination: Host,
    destination_port: int,
    *,
    source_port: int = 40000,
    sequence: int = 1,
    version: Version = 4,
) -> bytes:
    """The first segment of a TCP connection, with no options."""
    syn, data_offset, window = 0x02, 5 << 4, 64240
    header = struct.pack(
        "!HHIIBBHHH", source_port, destination_port, sequence, 0, data_offset, syn, window, 0, 0
    )
    sum_ = _transport_checksum(source, destination, IPPROTO_TCP, header, version)
    segment = header[:16] + struct.pack("!H", sum_) + header[18:]
    return _ip(source, destination, IPPROTO_TCP, segment, version)


def icmp_echo(
    source: Host,
    destination: Host,
    *,
    identifier: int = 1,
    sequence: int = 1,
    payload: bytes = b"",
    version: Version = 4,
) -> bytes:
    """An echo request: ICMP for version 4, ICMPv6 for version 6."""
    rest = struct.pack("!HH", identifier, sequence) + payload
    if version == 6:
        return _icmpv6(source, destination, 128, rest)
    sum_ = checksum(struct.pack("!BBH", 8, 0, 0) + rest)
    return _ip(source, destination, IPPROTO_ICMP, struct.pack("!BBH", 8, 0, sum_) + rest, 4)


def neighbor_solicitation(source: Host, wanted: Host) -> bytes:
    """IPv6's "who has" (RFC 4861), sent to the one host that it asks for."""
    source_link_layer_address = bytes((1, 1)) + source.mac
    return _icmpv6(source, wanted, 135, bytes(4) + wanted.ipv6.packed + source_link_layer_address)


def scripted(codes: bytes, *, source: Host = PEER, destination: Host = NEAR, length: int = 60) -> bytes:
    """A frame for the sample ``scripted``: byte N of ``codes`` is what its program scripted_N returns."""
    if len(codes) > length - 14:
        raise ValueError(f"{len(codes)} codes do not fit a frame of {length} bytes")
    return ethernet(source, destination, ETH_P_LOCAL_EXPERIMENT, codes.ljust(length - 14, b"\0"))


def _icmpv6(source: Host, destination: Host, kind: int, rest: bytes) -> bytes:
    header = struct.pack("!BBH", kind, 0, 0)
    sum_ = _transport_checksum(source, destination, IPPROTO_ICMPV6, header + rest, 6)
    return _ip(source, destination, IPPROTO_ICMPV6, struct.pack("!BBH", kind, 0, sum_) + rest, 6)


def _transport_checksum(
    source: Host, destination: Host, protocol: int, segment: bytes, version: Version
) -> int:
    if version == 4:
        addresses = source.ipv4.packed + destination.ipv4.packed
        return checksum(addresses + struct.pack("!HH", protocol, len(segment)) + segment)
    addresses = source.ipv6.packed + destination.ipv6.packed
    return checksum(addresses + struct.pack("!II", len(segment), protocol) + segment)


def _ip(source: Host, destination: Host, protocol: int, payload: bytes, version: Version) -> bytes:
    if version == 4:
        do_not_fragment, ttl = 0x4000, 64
        first = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, do_not_fragment, ttl, protocol)
        addresses = source.ipv4.packed + destination.ipv4.packed
        header = first + struct.pack("!H", checksum(first + addresses)) + addresses
        return ethernet(source, destination, ETH_P_IP, header + payload)
    hop_limit = 255 if protocol == IPPROTO_ICMPV6 else 64  # neighbour discovery demands 255
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
    return ethernet(
        source, destination, ETH_P_IPV6, header + source.ipv6.packed + destination.ipv6.packed + payload
    )
