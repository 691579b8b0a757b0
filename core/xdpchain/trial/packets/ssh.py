# SPDX-License-Identifier: Apache-2.0
"""The packets of an ssh connection as they come in from its client. Pure.

They look as Linux and OpenSSH send them: IPv4 with "don't fragment", TCP timestamps, DSCP AF21 once the
session is interactive (OpenSSH 7.8 on; none before), which the first segment does not have. Sequence numbers,
the window, and the hops that were counted off the TTL are not known, and made up.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from .frames import ACK, PSH, SYN, Host, Version, tagged, tcp
from .packet import Packet

__all__ = ["PREFIX", "Ends", "ssh_packets"]

PREFIX = "your ssh: "
"""With what the names of these packets begin."""

AF21 = 0x48
TIMESTAMPS = bytes((1, 1, 8, 10)) + struct.pack("!II", 1, 1)
SYN_OPTIONS = struct.pack("!BBHBBBBIIBBBB", 2, 4, 1460, 4, 2, 8, 10, 1, 0, 1, 3, 3, 7)
"""Largest segment, selective acknowledgements, timestamps, window scale."""
KEYSTROKE = bytes(36)
"""The size of a packet that carries one key: length, padding, and an authentication tag."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of the connection; addresses of one version, in text. ``gateway_mac`` is who hands the
    client's packets to the interface: the client itself, or the gateway.
    """

    client: str
    client_port: int
    server: str
    server_port: int
    mac: bytes
    gateway_mac: bytes


def ssh_packets(ends: Ends, vlan: int | None = None) -> tuple[Packet, ...]:
    """A key that is pressed, an acknowledgement of what was shown, and the first packet of a new connection.
    With ``vlan``, in that VLAN.
    """
    client, near = _host(ends.client, ends.gateway_mac), _host(ends.server, ends.mac)
    version: Version = 6 if ":" in ends.client else 4
    # Another port than the connection has, of those that clients take (RFC 6335, 8.1.2).
    again = ends.client_port + 1 if 49152 <= ends.client_port < 65535 else 49152
    port, to, peer = ends.client_port, ends.server_port, 1 << 20
    found = (
        (
            f"{PREFIX}data",
            tcp(client, near, to, PSH | ACK, source_port=port, sequence=peer, acknowledges=peer,
                options=TIMESTAMPS, payload=KEYSTROKE, service=AF21, version=version),
        ),
        (
            f"{PREFIX}ACK",
            tcp(client, near, to, ACK, source_port=port, sequence=peer + len(KEYSTROKE), acknowledges=peer,
                options=TIMESTAMPS, service=AF21, version=version),
        ),
        (
            f"{PREFIX}SYN to connect again",
            tcp(client, near, to, SYN, source_port=again, options=SYN_OPTIONS, version=version),
        ),
    )  # fmt: skip
    if vlan is None:
        return tuple(Packet(name, frame, own=True) for name, frame in found)
    return tuple(Packet(f"{name}, VLAN {vlan}", tagged(frame, vlan), own=True) for name, frame in found)


def _host(address: str, mac: bytes) -> Host:
    found = ip_address(address)
    if isinstance(found, IPv4Address):
        return Host(mac, found, IPv6Address("::"))
    return Host(mac, IPv4Address("0.0.0.0"), found)
