# SPDX-License-Identifier: Apache-2.0
"""The packets of the operator's own connections, as they arrive on an interface."""

from __future__ import annotations

from typing import NamedTuple

from xdpchain.frozen import frozen
from xdpchain.model.interface import Interface
from xdpchain.sys.netlink import Netlink

from .arrivals import Arrival, Arrivals
from .own_connection import ARPHRD_LOOPBACK, SshConnection, arrivals_of, own_connections
from .packet import Packet
from .ssh import Ends, ssh_packets

__all__ = ["OwnPackets", "OwnTraffic"]


@frozen
class OwnPackets:
    """Packets, notes on their made-up parts, and ``doubts``: what else may arrive on the interface but can't
    be built, a sentence each.
    """

    packets: tuple[Packet, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


class OwnTraffic:
    """The operator's own connections, looked up once per network namespace (among the sockets of all
    processes) and kept for the duration of a change.
    """

    def __init__(self) -> None:
        self._arriving: dict[str | None, _Arriving] = {}

    def into(self, interface: Interface) -> OwnPackets:
        """The packets known to arrive through the interface; empty if there are none.

        Raises what `own_connections` raises.
        """
        netns, ifindex = interface.netns, interface.ifindex
        if netns not in self._arriving:
            self._arriving[netns] = _arriving(netns)
        known = self._arriving[netns]
        packets: dict[Packet, None] = {}
        notes: dict[str, None] = {}
        doubts = dict.fromkeys(known.doubts)
        for index, (connection, arrivals, unsure) in enumerate(known.connections):
            name = f" from {connection.client}:{connection.client_port}" if index else ""
            here = [arrival for arrival in arrivals if arrival.ifindex == ifindex]
            for arrival in here:
                packets |= dict.fromkeys(ssh_packets(_ends(connection), arrival.wrappings, name))
                notes |= dict.fromkeys([arrival.note] if arrival.note else [])
            if not here:  # perhaps they arrive here in an unknown tunnel
                doubts |= dict.fromkeys(unsure)
        if doubts:
            with Netlink(netns) as netlink:
                if netlink.link(ifindex).arphrd == ARPHRD_LOOPBACK:
                    doubts.clear()
        return OwnPackets(tuple(packets), tuple(notes), tuple(doubts))


class _Arriving(NamedTuple):
    """Where the connections that end in a namespace arrive, each with its doubts."""

    connections: tuple[tuple[SshConnection, tuple[Arrival, ...], tuple[str, ...]], ...]
    doubts: tuple[str, ...]


def _arriving(netns: str | None) -> _Arriving:
    known = own_connections(netns)
    found = []
    with Netlink(netns) as netlink:
        arrivals = Arrivals(netlink)
        for connection in known.connections:
            arrivals.doubts.clear()
            here = arrivals_of(connection, arrivals)
            found.append((connection, here, tuple(arrivals.doubts)))
    return _Arriving(tuple(found), known.doubts)


def _ends(connection: SshConnection) -> Ends:
    return Ends(*connection.ends, connection.outbound, connection.mosh)
