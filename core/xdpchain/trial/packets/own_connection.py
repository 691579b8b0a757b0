# SPDX-License-Identifier: Apache-2.0
"""Find the connections that the operator works over, and the interfaces that carry them.

The connections are the union of:

- SSH_CONNECTION, set by sshd: from our environment and (since sudo removes it) from our ancestors', even if
  the kernel no longer lists the connection;
- the established TCP connections held by our ancestors, and the UDP port of a mosh-server among them;
- if no ancestor holds one (a tmux pane is not a descendant of sshd): all established connections that an sshd
  holds, or to a port where one listens;
- if one of these comes from this machine (an ``ssh -R`` tunnel, a relay): the connections of the process at
  its other end.

The kernel is asked in the interface's namespace and in those of our ancestors. The interfaces are the one
that replies to the client would use, and all below it (`arrivals`).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Sequence

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
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
"""Most connections that are guarded."""


@frozen
class SshConnection:
    """Both ends of a connection: addresses in the kernel's spelling, and ports. ``zone`` is the interface of
    link-local addresses, by name or index. ``outbound``: it was opened from here. ``mosh``: mosh's UDP.
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
        """Parse the value of SSH_CONNECTION; None if it is malformed."""
        try:
            client, client_port, server, server_port = text.split()
            ends = [_address(end) for end in (client, server)]
            zone = server.partition("%")[2] or client.partition("%")[2] or None
            return cls(ends[0], int(client_port), ends[1], int(server_port), zone)
        except ValueError:
            return None

    @property
    def ends(self) -> tuple[str, int, str, int]:
        """Its addresses and ports, which identify it."""
        return self.client, self.client_port, self.server, self.server_port


@frozen
class OwnConnections:
    """Connections that end in a namespace, likeliest first. ``doubts``: others that can't be determined, a
    sentence each.
    """

    connections: tuple[SshConnection, ...] = ()
    doubts: tuple[str, ...] = ()


def own_connections(netns: str | None = None) -> OwnConnections:
    """The operator's connections that may end in a network namespace.

    Raises NotFound for an unknown namespace, PermissionDenied.
    """
    process_chain = tuple(socket_owners.ancestors())
    named = _named(process_chain)
    doubts: dict[str, None] = {}
    try:
        here = list_sockets(netns)
        certain = _certain(process_chain, here, netns)
    except XdpChainError as error:
        with Netlink(netns):  # raises if the namespace itself is the problem
            pass
        why = error.why or error.what
        return OwnConnections(named[:1], (f"the kernel does not report which connections are live: {why}",))
    candidates = dict.fromkeys(named[:1])
    live = {_of(sock).ends for sock in here if sock.state == "established"}
    candidates |= dict.fromkeys(connection for connection in named[1:] if connection.ends in live)
    candidates |= dict.fromkeys(_held(process_chain, here, named, doubts))
    all_processes: tuple[Process, ...] = ()
    if not certain or any(_local(connection, here) for connection in candidates):
        all_processes = tuple(socket_owners.processes())
    if not certain:
        candidates |= dict.fromkeys(_served(here, all_processes, named))
    candidates |= dict.fromkeys(_relayed(tuple(candidates), here, all_processes))
    connections = tuple(_distinct(candidates))
    if len(connections) > MOST:
        doubts[f"{len(connections)} ssh connections may be yours; only {MOST} are tried"] = None
    return OwnConnections(connections[:MOST], tuple(doubts))


def own_interfaces(netns: str | None = None) -> frozenset[int]:
    """The ifindexes in a network namespace that carry, or may carry, the operator's connections; empty if
    none ends there.

    Raises NotFound for an unknown namespace, PermissionDenied.
    """
    ifindexes: set[int] = set()
    known = own_connections(netns)
    with Netlink(netns) as netlink:
        arrivals = Arrivals(netlink)
        not_loopback = {link.ifindex for link in netlink.links() if link.arphrd != ARPHRD_LOOPBACK}
        ifindexes |= not_loopback if known.doubts else set()
        for connection in known.connections:
            arrivals.doubts.clear()
            ifindexes |= {arrival.ifindex for arrival in arrivals_of(connection, arrivals)}
            ifindexes |= not_loopback if arrivals.doubts else set()
    return frozenset(ifindexes)


def arrivals_of(connection: SshConnection, arrivals: Arrivals) -> tuple[Arrival, ...]:
    """Where a connection's packets arrive; empty if it does not end in the namespace."""
    netlink, zone = arrivals.netlink, connection.zone
    try:
        through = netlink.link(int(zone) if zone.isdecimal() else zone).ifindex if zone else None
        way = netlink.way(connection.client, connection.server, through)
    except XdpChainError:  # the server's address is not in this namespace
        return ()
    return arrivals.of(way, connection.client, connection.server, "UDP" if connection.mosh else "TCP")


def _named(process_chain: Sequence[Process]) -> tuple[SshConnection, ...]:
    """The connections in SSH_CONNECTION, ours first, then our ancestors'."""
    texts = [os.environ.get(VARIABLE), *(process.variable(VARIABLE) for process in process_chain)]
    found = (SshConnection.parse(text) for text in texts if text)
    return tuple(dict.fromkeys(connection for connection in found if connection is not None))


def _certain(process_chain: Sequence[Process], here: Sequence[Socket], netns: str | None) -> bool:
    """Whether an ancestor holds a connection, in this namespace or an ancestor's."""
    held = frozenset().union(*(process.inodes for process in process_chain))
    if not held:
        return False
    places = {}
    for process in process_chain:
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
    moshes = frozenset().union(*(process.inodes for process in process_chain if process.command == MOSH))
    return any(
        sock.inode in moshes
        or (sock.inode in held and sock.protocol == "TCP" and sock.state == "established")
        for sock in (*here, *sockets)
    )


def _held(
    process_chain: Sequence[Process],
    here: Sequence[Socket],
    named: Sequence[SshConnection],
    doubts: dict[str, None],
) -> Iterator[SshConnection]:
    """The connections whose sockets our ancestors hold."""
    held = frozenset().union(*(process.inodes for process in process_chain))
    listening = {sock.local_port for sock in here if sock.state == "listening"}
    for sock in here:
        if sock.inode in held and sock.protocol == "TCP" and sock.state == "established":
            yield _of(sock, outbound=sock.local_port not in listening and sock.remote_port < sock.local_port)
    for process in process_chain:
        if process.command != MOSH:
            continue
        client = SshConnection.parse(process.variable(VARIABLE) or "") or (named[0] if named else None)
        for sock in here:
            if sock.inode not in process.inodes or sock.protocol != "UDP":
                continue
            if client is None:
                doubts[f"mosh-server listens on UDP port {sock.local_port}, and its client is unknown"] = None
            else:
                yield SshConnection(
                    client.client, 60001, client.server, sock.local_port, client.zone, mosh=True
                )


def _served(
    here: Sequence[Socket], all_processes: Sequence[Process], named: Sequence[SshConnection]
) -> Iterator[SshConnection]:
    """All established connections that an sshd holds, or to a port where one listens."""
    # Only root's: any user could name a process sshd to be guarded.
    daemons = (process for process in all_processes if process.command in SSHD and process.uid == 0)
    held = frozenset().union(*(process.inodes for process in daemons))
    listening = {sock.local_port for sock in here if sock.state == "listening"}
    ports = {sock.local_port for sock in here if sock.state == "listening" and sock.inode in held}
    # If other users' descriptors can't be read: the known ssh ports.
    ports |= listening & {22, *(connection.server_port for connection in named)}
    for sock in here:
        if (
            sock.protocol == "TCP"
            and sock.state == "established"
            and (sock.inode in held or sock.local_port in ports)
        ):
            yield _of(sock, outbound=sock.local_port not in ports and sock.local_port not in listening)


def _relayed(
    connections: Sequence[SshConnection], here: Sequence[Socket], all_processes: Sequence[Process]
) -> Iterator[SshConnection]:
    """For connections from this machine: those of the processes at their other ends."""
    waiting, seen = list(connections), set(connections)
    ours = {sock.local for sock in here}
    while waiting:
        connection = waiting.pop()
        other = _local(connection, here)
        if other is None:
            continue
        holders = [process for process in all_processes if other.inode in process.inodes]
        inodes = frozenset().union(*(process.inodes for process in holders))
        for sock in here:
            if sock.inode not in inodes or sock.state != "established" or sock is other:
                continue
            relayed = _of(sock, outbound=True)
            if relayed not in seen and (sock.remote not in ours or _local(relayed, here) is not None):
                seen.add(relayed)
                waiting.append(relayed)
                yield relayed


def _local(connection: SshConnection, here: Sequence[Socket]) -> Socket | None:
    """The socket at a connection's other end, if that is on this machine too."""
    for sock in here:
        ends = sock.remote, sock.remote_port, sock.local, sock.local_port
        if ends == (connection.server, connection.server_port, connection.client, connection.client_port):
            return sock
    return None


def _distinct(found: dict[SshConnection, None]) -> Iterator[SshConnection]:
    """The connections, each pair of ends once."""
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
    """The address without its zone; IPv4-mapped IPv6 addresses become IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
