# SPDX-License-Identifier: Apache-2.0
"""The packets of an ssh (or mosh) connection as they arrive from its other end. Pure.

They look like those of Linux and OpenSSH: IPv4 with "don't fragment", TCP timestamps, and DSCP AF21 once the
session is interactive (OpenSSH 7.8 and later), so not in the first segment. Sequence numbers, window and TTL
are unknown and made up.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from xdpchain.frozen import frozen

from .frames import ACK, PSH, SYN, Host, Version, ip_of, tcp, udp
from .packet import Packet
from .wrapping import Wrapping, words, wrapped

__all__ = ["PREFIX", "Ends", "ssh_packets"]

PREFIX = "your ssh: "
"""Prefix of these packets' names."""

AF21 = 0x48
TIMESTAMPS = bytes((1, 1, 8, 10)) + struct.pack("!II", 1, 1)
SYN_OPTIONS = struct.pack("!BBHBBBBIIBBBB", 2, 4, 1460, 4, 2, 8, 10, 1, 0, 1, 3, 3, 7)
"""MSS, SACK permitted, timestamps, window scale."""
KEYSTROKE = bytes(36)
"""Payload the size of one keystroke: length, padding, and an authentication tag."""
MOSH = bytes(60)
"""Payload about the size of mosh's: a sequence number, a tag, and ciphertext."""
NOWHERE = bytes(6)


@frozen
class Ends:
    """Both ends of a connection; addresses of one IP version, as text. ``outbound``: it was opened from here,
    so the other end would not reconnect. ``mosh``: mosh's UDP.
    """

    client: str
    client_port: int
    server: str
    server_port: int
    outbound: bool = False
    mosh: bool = False


def ssh_packets(ends: Ends, wrappings: Sequence[Wrapping], name: str = "") -> tuple[Packet, ...]:
    """A keystroke, an acknowledgement of output, and the first packet of a new connection, encapsulated as on
    the device. ``name`` is appended to the packets' names.
    """
    packets = tuple((kind, wrapped(ip_of(frame), wrappings)) for kind, frame in _frames(ends))
    suffix = name + words(wrappings)
    return tuple(Packet(f"{PREFIX}{kind}{suffix}", data, own=True) for kind, data in packets)


def _frames(ends: Ends) -> tuple[tuple[str, bytes], ...]:
    client, near = _host(ends.client), _host(ends.server)
    version: Version = 6 if ":" in ends.client else 4
    port, to, peer = ends.client_port, ends.server_port, 1 << 20
    if ends.mosh:
        return (("mosh", udp(client, near, to, source_port=port, payload=MOSH, version=version)),)
    live = (
        (
            "data",
            tcp(client, near, to, PSH | ACK, source_port=port, sequence=peer, acknowledges=peer,
                options=TIMESTAMPS, payload=KEYSTROKE, service=AF21, version=version),
        ),
        (
            "ACK",
            tcp(client, near, to, ACK, source_port=port, sequence=peer + len(KEYSTROKE), acknowledges=peer,
                options=TIMESTAMPS, service=AF21, version=version),
        ),
    )  # fmt: skip
    if ends.outbound:
        return live
    # A different port, from the range that clients use (RFC 6335, 8.1.2).
    again = port + 1 if 49152 <= port < 65535 else 49152
    first = tcp(client, near, to, SYN, source_port=again, options=SYN_OPTIONS, version=version)
    return (*live, ("SYN to reconnect", first))


def _host(address: str) -> Host:
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return Host(NOWHERE, parsed, IPv6Address("::"))
    return Host(NOWHERE, IPv4Address("0.0.0.0"), parsed)
