# SPDX-License-Identifier: Apache-2.0
"""Which connections the operator works over, and the interfaces that carry them.

They are the union of what can be known:

- SSH_CONNECTION, in which sshd names both ends: of our environment, and (for sudo takes it out) of our
  ancestors', whether the kernel still knows of that connection or not;
- the established TCP connections whose sockets our ancestors hold, and the port of a mosh-server among them;
- where no ancestor holds one (a pane of tmux, whose sshd is nobody's parent): all established connections
  that an sshd holds, or to a port where one listens;
- where one of these comes from this machine itself (a tunnel made with ``ssh -R``, a relay): the connections
  of the process at its other end.

The kernel is asked in the namespace of the interface, and in those of our ancestors. The interface is the
one by which the kernel would answer the client, and all below it (`arrivals`).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xdpchain.errors import XdpChainError
from xdpchain.sys import socket_owners
from xdpchain.sys.netlink import Netlink
from xdpchain.sys.netlink.sockets import Socket, list_sockets, list_sockets_at
from xdpchain.sys.socket_owners import Process

from .arrivals import Arrival, Arrivals

__all__ = [
    "ARPHRD_LOOPBACK",
    "MOST",
    "OwnConnections",
    "SshConnection",
    "arrivals_of",
    "own_connections",
    "own_interfaces",
]

ARPHRD_LOOPBACK = 772
VARIABLE = "SSH_CONNECTION"
SSHD = ("sshd", "sshd-session", "sshd-auth", "dropbear")
MOSH = "mosh-server"
MOST = 128
"""Connections that are guarded."""


@dataclass(frozen=True, slots=True)
class SshConnection:
    """Both ends of a connection: addresses in the kernel's spelling, and ports. ``zone`` is the interface of
    link-local addresses, by name or number. ``outbound``: it was made from here. ``mosh``: UDP, as mosh has
    it.
    """

    client: str
    client_port: int
    server: str
    server_port: int
    zone: str | None = None
    outbound: bool = False
    mosh: bool = False

    @classmethod
    def parse(cls, text: str) -> SshConnection | None:
        """What sshd writes into SSH_CONNECTION; None for anything else."""
        try:
            client, client_port, server, server_port = text.split()
            ends = [_address(end) for end in (client, server)]
            zone = server.partition("%")[2] or client.partition("%")[2] or None
            return cls(ends[0], int(client_port), ends[1], int(server_port), zone)
        except ValueError:
            return None

    @property
    def ends(self) -> tuple[str, int, str, int]:
        """Who it is with, whatever its other properties."""
        return self.client, self.client_port, self.server, self.server_port


@dataclass(frozen=True, slots=True)
class OwnConnections:
    """Connections that end in a namespace, the likeliest first. ``doubts`` are others that can't be told, a
    sentence each.
    """

    connections: tuple[SshConnection, ...] = ()
    doubts: tuple[str, ...] = ()


def own_connections(netns: str | None = None) -> OwnConnections:
    """The operator's connections, as far as they may end in a network namespace.

    Raises NotFound for an unknown namespace, PermissionDenied.
    """
    line = tuple(socket_owners.ancestors())
    named = _named(line)
    doubts: dict[str, None] = {}
    try:
        here = list_sockets(netns)
        certain = _certain(line, here, netns)
    except XdpChainError as error:
        with Netlink(netns):  # what is wrong with the namespace is not a doubt
            pass
        why = error.why or error.what
        return OwnConnections(named[:1], (f"the kernel does not report which connections are live: {why}",))
    found = dict.fromkeys(named[:1])
    live = {_of(sock).ends for sock in here if sock.state == "established"}
    found |= dict.fromkeys(connection for connection in named[1:] if connection.ends in live)
    found |= dict.fromkeys(_held(line, here, named, doubts))
    every: tuple[Process, ...] = ()
    if not certain or any(_local(connection, here) for connection in found):
        every = tuple(socket_owners.processes())
    if not certain:
        found |= dict.fromkeys(_served(here, every, named))
    found |= dict.fromkeys(_relayed(tuple(found), here, every))
    connections = tuple(_distinct(found))
    if len(connections) > MOST:
        doubts[f"{len(connections)} ssh connections may be yours, of which {MOST} are tried"] = None
    return OwnConnections(connections[:MOST], tuple(doubts))


def own_interfaces(netns: str | None = None) -> frozenset[int]:
    """The ifindexes in a network namespace that carry our own connections, or may do so for all that is
    known; empty if none ends there.

    Raises NotFound for an unknown namespace, PermissionDenied.
    """
    found: set[int] = set()
    known = own_connections(netns)
    with Netlink(netns) as netlink:
        arrivals = Arrivals(netlink)
        every = {link.ifindex for link in netlink.links() if link.arphrd != ARPHRD_LOOPBACK}
        found |= every if known.doubts else set()
        for connection in known.connections:
            arrivals.doubts.clear()
            found |= {arrival.ifindex for arrival in arrivals_of(connection, arrivals)}
            found |= every if arrivals.doubts else set()
    return frozenset(found)


def arrivals_of(connection: SshConnection, arrivals: Arrivals) -> tuple[Arrival, ...]:
    """Where a connection's packets come in; nothing where it does not end in the namespace."""
    netlink, zone = arrivals.netlink, connection.zone
    try:
        through = netlink.link(int(zone) if zone.isdecimal() else zone).ifindex if zone else None
        way = netlink.way(connection.client, connection.server, through)
    except XdpChainError:  # the server's address is none of this namespace's
        return ()
    return arrivals.of(way, connection.client, connection.server, "UDP" if connection.mosh else "TCP")


def _named(line: Sequence[Process]) -> tuple[SshConnection, ...]:
    """What SSH_CONNECTION says, ours first, then our ancestors'."""
    texts = [os.environ.get(VARIABLE), *(process.variable(VARIABLE) for process in line)]
    found = (SshConnection.parse(text) for text in texts if text)
    return tuple(dict.fromkeys(connection for connection in found if connection is not None))


def _certain(line: Sequence[Process], here: Sequence[Socket], netns: str | None) -> bool:
    """Whether an ancestor holds a connection, in this namespace or in one of the ancestors'."""
    held = frozenset().union(*(process.inodes for process in line))
    if not held:
        return False
    places = {}
    for process in line:
        try:
            path = f"/proc/{process.pid}/ns/net"
            places[os.stat(path).st_ino] = path
        except OSError:
            continue
    sockets = list(here) if netns is not None else []
    for path in places.values():
        try:
            sockets += list_sockets_at(path)
        except (OSError, XdpChainError):
            continue
    moshes = frozenset().union(*(process.inodes for process in line if process.command == MOSH))
    return any(
        sock.inode in moshes
        or (sock.inode in held and sock.protocol == "TCP" and sock.state == "established")
        for sock in (*here, *sockets)
    )


def _held(
    line: Sequence[Process], here: Sequence[Socket], named: Sequence[SshConnection], doubts: dict[str, None]
) -> Iterator[SshConnection]:
    """The connections whose sockets our ancestors hold."""
    held = frozenset().union(*(process.inodes for process in line))
    listening = {sock.local_port for sock in here if sock.state == "listening"}
    for sock in here:
        if sock.inode in held and sock.protocol == "TCP" and sock.state == "established":
            yield _of(sock, outbound=sock.local_port not in listening and sock.remote_port < sock.local_port)
    for process in line:
        if process.command != MOSH:
            continue
        client = SshConnection.parse(process.variable(VARIABLE) or "") or (named[0] if named else None)
        for sock in here:
            if sock.inode not in process.inodes or sock.protocol != "UDP":
                continue
            if client is None:
                doubts[f"mosh-server listens on UDP port {sock.local_port}, and its client is not known"] = (
                    None
                )
            else:
                yield SshConnection(
                    client.client, 60001, client.server, sock.local_port, client.zone, mosh=True
                )


def _served(
    here: Sequence[Socket], every: Sequence[Process], named: Sequence[SshConnection]
) -> Iterator[SshConnection]:
    """All established connections that an sshd holds, or to a port where one listens."""
    # Root's alone: any user may call a process sshd, and would be guarded by that.
    daemons = (process for process in every if process.command in SSHD and process.uid == 0)
    held = frozenset().union(*(process.inodes for process in daemons))
    listening = {sock.local_port for sock in here if sock.state == "listening"}
    ports = {sock.local_port for sock in here if sock.state == "listening" and sock.inode in held}
    # Where other users' descriptors can't be read: the ports where ssh is known to be.
    ports |= listening & {22, *(connection.server_port for connection in named)}
    for sock in here:
        if (
            sock.protocol == "TCP"
            and sock.state == "established"
            and (sock.inode in held or sock.local_port in ports)
        ):
            yield _of(sock, outbound=sock.local_port not in ports and sock.local_port not in listening)


def _relayed(
    found: Sequence[SshConnection], here: Sequence[Socket], every: Sequence[Process]
) -> Iterator[SshConnection]:
    """The connections of the processes at the other ends of those that come from this machine itself."""
    waiting, seen = list(found), set(found)
    ours = {sock.local for sock in here}
    while waiting:
        connection = waiting.pop()
        other = _local(connection, here)
        if other is None:
            continue
        holders = [process for process in every if other.inode in process.inodes]
        inodes = frozenset().union(*(process.inodes for process in holders))
        for sock in here:
            if sock.inode not in inodes or sock.state != "established" or sock is other:
                continue
            new = _of(sock, outbound=True)
            if new not in seen and (sock.remote not in ours or _local(new, here) is not None):
                seen.add(new)
                waiting.append(new)
                yield new


def _local(connection: SshConnection, here: Sequence[Socket]) -> Socket | None:
    """The socket at the other end of a connection, where that is here as well."""
    for sock in here:
        ends = sock.remote, sock.remote_port, sock.local, sock.local_port
        if ends == (connection.server, connection.server_port, connection.client, connection.client_port):
            return sock
    return None


def _distinct(found: dict[SshConnection, None]) -> Iterator[SshConnection]:
    """Each pair of ends once."""
    seen = set()
    for connection in found:
        if (connection.ends, connection.mosh) not in seen:
            seen.add((connection.ends, connection.mosh))
            yield connection


def _of(sock: Socket, *, outbound: bool = False) -> SshConnection:
    link_local = ipaddress.ip_address(sock.remote).is_link_local and sock.ifindex
    zone = str(sock.ifindex) if link_local else None
    return SshConnection(
        sock.remote, sock.remote_port, sock.local, sock.local_port, zone, outbound, sock.protocol == "UDP"
    )


def _address(text: str) -> str:
    """Without a zone; an IPv4 address that an IPv6 socket saw becomes one again."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
