# SPDX-License-Identifier: Apache-2.0
"""The packets of an ssh connection (or mosh's) as they come in from its other end. Pure.

They look as Linux and OpenSSH send them: IPv4 with "don't fragment", TCP timestamps, DSCP AF21 once the
session is interactive (OpenSSH 7.8 on; none before), which the first segment does not have. Sequence numbers,
the window, and the hops that were counted off the TTL are not known, and made up.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from .frames import ACK, PSH, SYN, Host, Version, ip_of, tcp, udp
from .packet import Packet
from .wrapping import Wrapping, words, wrapped

__all__ = ["PREFIX", "Ends", "ssh_packets"]

PREFIX = "your ssh: "
"""With what the names of these packets begin."""

AF21 = 0x48
TIMESTAMPS = bytes((1, 1, 8, 10)) + struct.pack("!II", 1, 1)
SYN_OPTIONS = struct.pack("!BBHBBBBIIBBBB", 2, 4, 1460, 4, 2, 8, 10, 1, 0, 1, 3, 3, 7)
"""Largest segment, selective acknowledgements, timestamps, window scale."""
KEYSTROKE = bytes(36)
"""The size of a packet that carries one key: length, padding, and an authentication tag."""
MOSH = bytes(60)
"""About the size of mosh's packets: a number, a tag, and what is encrypted."""
NOWHERE = bytes(6)


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of the connection; addresses of one version, in text. ``outbound``: it was made from here, so
    that nobody connects again from there. ``mosh``: UDP, as mosh has it.
    """

    client: str
    client_port: int
    server: str
    server_port: int
    outbound: bool = False
    mosh: bool = False


def ssh_packets(ends: Ends, wrappings: Sequence[Wrapping], name: str = "") -> tuple[Packet, ...]:
    """A key that is pressed, an acknowledgement of what was shown, and the first packet of a new connection,
    within what lies around them on the device. ``name`` goes after the packets' own.
    """
    found = tuple((kind, wrapped(ip_of(frame), wrappings)) for kind, frame in _frames(ends))
    after = name + words(wrappings)
    return tuple(Packet(f"{PREFIX}{kind}{after}", data, own=True) for kind, data in found)


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
    # Another port than the connection has, of those that clients take (RFC 6335, 8.1.2).
    again = port + 1 if 49152 <= port < 65535 else 49152
    first = tcp(client, near, to, SYN, source_port=again, options=SYN_OPTIONS, version=version)
    return (*live, ("SYN to reconnect", first))


def _host(address: str) -> Host:
    found = ip_address(address)
    if isinstance(found, IPv4Address):
        return Host(NOWHERE, found, IPv6Address("::"))
    return Host(NOWHERE, IPv4Address("0.0.0.0"), found)
