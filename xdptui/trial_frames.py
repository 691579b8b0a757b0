# SPDX-License-Identifier: Apache-2.0
"""The frames of a trial: one of each kind that XDP programs tell apart. Addresses are those for
documentation.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

__all__ = ["NAMED_FRAMES"]

_ETHER = bytes.fromhex("020000000002020000000001")
_HERE, _THERE = IPv4Address("192.0.2.1").packed, IPv4Address("192.0.2.2").packed
_HERE6, _THERE6 = IPv6Address("2001:db8::1").packed, IPv6Address("2001:db8::2").packed
_LEAST = 60


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ipv4(protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, _HERE, _THERE)
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return (_ETHER + b"\x08\x00" + head + payload).ljust(_LEAST, b"\0")


def _ipv6(protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, _HERE6, _THERE6)
    return _ETHER + b"\x86\xdd" + head + payload


def _udp(port: int, size: int) -> bytes:
    # A checksum of zero means none (RFC 768).
    return struct.pack("!HHHH", 40000, port, 8 + size, 0) + b"x" * size


def _tcp(port: int, flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 5 << 4, flags, 64240, 0, 0)


def _icmp() -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"x" * 32
    return body[:2] + struct.pack("!H", _checksum(body)) + body[4:]


def _arp() -> bytes:
    request = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, _ETHER[6:], _HERE, b"\0" * 6, _THERE)
    return (b"\xff" * 6 + _ETHER[6:] + b"\x08\x06" + request).ljust(_LEAST, b"\0")


NAMED_FRAMES: tuple[tuple[str, bytes], ...] = (
    ("ARP request", _arp()),
    ("IPv4 ICMP echo request", _ipv4(1, _icmp())),
    ("IPv4 TCP SYN to port 80", _ipv4(6, _tcp(80, 0x02))),
    ("IPv4 TCP SYN to port 22", _ipv4(6, _tcp(22, 0x02))),
    ("IPv4 UDP to port 53", _ipv4(17, _udp(53, 32))),
    ("IPv4 UDP to port 9, 1400 B", _ipv4(17, _udp(9, 1400 - 42))),
    ("IPv6 UDP to port 53", _ipv6(17, _udp(53, 32))),
    ("no protocol we know", _ETHER + b"\x88\xb5" + bytes(46)),
)
"""Name and bytes of each frame, from the Ethernet header on."""
