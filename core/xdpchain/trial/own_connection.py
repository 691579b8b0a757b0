# SPDX-License-Identifier: Apache-2.0
"""Which interfaces carry the ssh connection that this process was started over.

sshd names both ends in SSH_CONNECTION (client address and port, server address and port). sudo takes that out
of the environment, so that of our parents is read as well. The interface is the one by which the kernel would
answer the client, and the devices under it (of a VLAN, bond, bridge...).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xdpchain.errors import XdpChainError
from xdpchain.sys.netlink import LinkInfo, Netlink, Way

__all__ = ["SshConnection", "own_interfaces", "ssh_connection", "way_back"]

VARIABLE = "SSH_CONNECTION"
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class SshConnection:
    """Both ends of an ssh connection: addresses in the kernel's spelling, and TCP ports. ``zone`` is the
    interface of link-local addresses, by name or number.
    """

    client: str
    client_port: int
    server: str
    server_port: int
    zone: str | None = None

    @classmethod
    def parse(cls, text: str) -> SshConnection | None:
        """What sshd writes into SSH_CONNECTION; None for anything else."""
        try:
            client, client_port, server, server_port = text.split()
            ends = [_address(one) for one in (client, server)]
            zone = server.partition("%")[2] or client.partition("%")[2] or None
            return cls(ends[0], int(client_port), ends[1], int(server_port), zone)
        except ValueError:
            return None


def ssh_connection() -> SshConnection | None:
    """The connection of this session; None if there is none, or we may not know."""
    for text in _variables():
        if (found := SshConnection.parse(text)) is not None:
            return found
    return None


def own_interfaces(netns: str | None = None) -> frozenset[int]:
    """The ifindexes in a network namespace that carry our own connection; empty if it does not end there.

    Raises NotFound for an unknown namespace, PermissionDenied.
    """
    connection = ssh_connection()
    if connection is None:
        return frozenset()
    with Netlink(netns) as netlink:
        try:
            way = way_back(connection, netlink)
        except XdpChainError:  # the server's address is none of this namespace's
            return frozenset()
        return _with_lower(way.ifindex, netlink.links())


def way_back(connection: SshConnection, netlink: Netlink) -> Way:
    """How the kernel would answer the client. Raises NotFound where the connection does not end in the
    namespace.
    """
    zone = connection.zone
    through = netlink.link(int(zone) if zone.isdecimal() else zone).ifindex if zone else None
    return netlink.way(connection.client, connection.server, through)


def _with_lower(ifindex: int, links: Sequence[LinkInfo]) -> frozenset[int]:
    """A device and all under it, through which its packets come."""
    by_index = {link.ifindex: link for link in links}
    found: set[int] = set()
    new = {ifindex}
    while new:
        found |= new
        under = {link.lower for one in new if (link := by_index.get(one)) and link.lower}
        under |= {link.ifindex for link in links if link.master in new}
        new = under - found
    return frozenset(found)


def _variables() -> Iterator[str]:
    if text := os.environ.get(VARIABLE):
        yield text
    pid = os.getppid()
    while pid > 1:
        try:
            pairs = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
            status = (PROC / str(pid) / "stat").read_text()
        except OSError:
            return
        for pair in pairs:
            name, _, value = pair.partition(b"=")
            if name == VARIABLE.encode():
                yield value.decode(errors="replace")
        pid = int(status.rpartition(")")[2].split()[1])


def _address(text: str) -> str:
    """Without a zone; an IPv4 address that an IPv6 socket saw becomes one again."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
