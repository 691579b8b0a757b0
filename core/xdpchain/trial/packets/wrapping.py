# SPDX-License-Identifier: Apache-2.0
"""The encapsulation of a packet where it arrives: link-layer headers, VLAN tags, tunnels. Pure.

Encrypted payloads are replaced by arbitrary bytes of the same length: only the receiver could read them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from xdpchain.frozen import frozen

from .frames import Host, Version, ip, tagged, udp

__all__ = ["Ethernet", "Inside", "Tag", "Wrapping", "esp", "words", "wrapped"]

NOWHERE = bytes(6)
GRE_KEY, GRE_SEQUENCE = 0x2000, 0x1000
TRANSPARENT_BRIDGING = 0x6558
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
IPIP, IPV6, GRE, ESP, DESTINATION_OPTIONS = 4, 41, 47, 50, 60
SCRAMBLED = bytes((0x9D, 0x3B, 0xE4, 0x72, 0x58, 0xC1, 0x0F, 0xA6))


@frozen
class Ethernet:
    """An Ethernet header."""

    destination: bytes
    source: bytes


@frozen
class Tag:
    """An 802.1Q tag."""

    vlan: int


@frozen
class Inside:
    """A tunnel of rtnetlink's ``kind`` ("esp" for IPsec) from ``remote`` to ``local``. ``ident`` is the
    VNI, key or SPI, ``port`` the UDP port at our end, ``remote_port`` that at the other end.
    """

    kind: str
    remote: str
    local: str
    ident: int | None = None
    port: int | None = None
    remote_port: int | None = None
    numbered: bool = False
    limited: bool = False


Wrapping: TypeAlias = Ethernet | Tag | Inside


def wrapped(packet: bytes, wrappings: Sequence[Wrapping]) -> bytes:
    """An IP packet in its encapsulation, given innermost first."""
    frame = False
    for around in wrappings:
        if isinstance(around, Ethernet):
            kind = ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
            packet = around.destination + around.source + struct.pack("!H", kind) + packet
            frame = True
        elif isinstance(around, Tag):
            packet = tagged(packet, around.vlan)
        else:
            packet = _inside(packet, around, frame)
            frame = False
    return packet


def words(wrappings: Sequence[Wrapping]) -> str:
    """Suffix for a packet's name: ", VLAN 7", ", in vxlan 7 from 192.0.2.9"."""
    suffixes = []
    for around in wrappings:
        if isinstance(around, Tag):
            suffixes.append(f", VLAN {around.vlan}")
        elif isinstance(around, Inside):
            ident = "" if around.ident is None or around.kind == "esp" else f" {around.ident}"
            name = around.kind.upper() if around.kind in ("esp", "gre") else around.kind
            suffixes.append(f", in {name}{ident} from {around.remote}")
    return "".join(suffixes)


def esp(inner: bytes, spi: int) -> bytes:
    """An ESP packet (RFC 4303) with an unreadable payload."""
    return struct.pack("!II", spi, 1) + _scrambled(8 + (len(inner) + 17) // 16 * 16 + 16)


def _inside(inner: bytes, around: Inside, frame: bool) -> bytes:
    """The outer packet, starting at its IP header."""
    six = not frame and inner[0] >> 4 == 6
    kind = around.kind
    if kind == "vxlan":
        head = struct.pack("!II", 0x08000000, (around.ident or 0) << 8)
        return _udp(around, head + inner, 4789)
    if kind == "geneve":
        return _udp(
            around, struct.pack("!HHI", 0, TRANSPARENT_BRIDGING, (around.ident or 0) << 8) + inner, 6081
        )
    if kind == "wireguard":
        return _udp(
            around, struct.pack("<IIQ", 4, 1, 1) + _scrambled((len(inner) + 15) // 16 * 16 + 16), 51820
        )
    if kind == "esp":
        packet = esp(inner, around.ident or 256)
        return _ip(around, ESP, packet) if around.port is None else _udp(around, packet, 4500)
    if kind in ("gre", "gretap", "ip6gre", "ip6gretap"):
        flags = GRE_KEY * (around.ident is not None) | GRE_SEQUENCE * around.numbered
        protocol = TRANSPARENT_BRIDGING if frame else ETH_P_IPV6 if six else ETH_P_IP
        head = struct.pack("!HH", flags, protocol)
        head += b"" if around.ident is None else struct.pack("!I", around.ident)
        head += struct.pack("!I", 1) if around.numbered else b""
        return _ip(around, GRE, head + inner)
    return _ip(around, IPV6 if six else IPIP, inner)  # ipip, sit, ip6tnl


def _udp(around: Inside, payload: bytes, port: int) -> bytes:
    remote, local, version = _ends(around)
    return udp(
        remote,
        local,
        around.port or port,
        source_port=around.remote_port or 52345,
        payload=payload,
        version=version,
    )[14:]


def _ip(around: Inside, protocol: int, payload: bytes) -> bytes:
    remote, local, version = _ends(around)
    if around.limited and version == 6:
        # Tunnel encapsulation limit (RFC 2473): 4 more, and padding.
        payload = bytes((protocol, 0, 4, 1, 4, 1, 1, 0)) + payload
        protocol = DESTINATION_OPTIONS
    return ip(remote, local, protocol, payload, version)[14:]


def _ends(around: Inside) -> tuple[Host, Host, Version]:
    remote, local = _host(around.remote), _host(around.local)
    return remote, local, 6 if ip_address(around.remote).version == 6 else 4


def _host(address: str) -> Host:
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return Host(NOWHERE, parsed, IPv6Address("::"))
    return Host(NOWHERE, IPv4Address("0.0.0.0"), parsed)


def _scrambled(length: int) -> bytes:
    return (SCRAMBLED * (length // len(SCRAMBLED) + 1))[:length]
