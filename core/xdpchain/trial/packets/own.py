# SPDX-License-Identifier: Apache-2.0
"""The packets of the operator's own connections, as they come in through an interface."""

from __future__ import annotations

from dataclasses import dataclass

from xdpchain.model.chain import Interface
from xdpchain.sys.netlink import Netlink
from xdpchain.trial.arrivals import Arrivals
from xdpchain.trial.own_connection import ARPHRD_LOOPBACK, SshConnection, arrivals_of, own_connections

from .packet import Packet
from .ssh import Ends, ssh_packets

__all__ = ["OwnPackets", "own_traffic"]


@dataclass(frozen=True, slots=True)
class OwnPackets:
    """Packets, remarks on what of them is made up, and ``doubts``: what else may come in through the
    interface and can't be built, a sentence each.
    """

    packets: tuple[Packet, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def own_traffic(interface: Interface) -> OwnPackets:
    """What is known to come in through the interface of one's own connections; nothing where none does.

    Raises what `own_connections` raises.
    """
    known = own_connections(interface.netns)
    packets: dict[Packet, None] = {}
    notes: dict[str, None] = {}
    with Netlink(interface.netns) as netlink:
        arrivals = Arrivals(netlink)
        doubts = dict.fromkeys(known.doubts)
        for number, connection in enumerate(known.connections):
            name = f" from {connection.client}:{connection.client_port}" if number else ""
            arrivals.doubts.clear()
            found = arrivals_of(connection, arrivals)
            here = [arrival for arrival in found if arrival.ifindex == interface.ifindex]
            for arrival in here:
                packets |= dict.fromkeys(ssh_packets(_ends(connection), arrival.wrappings, name))
                notes |= dict.fromkeys([arrival.note] if arrival.note else [])
            if not here:  # below what is known of it, perhaps
                doubts |= arrivals.doubts
        if netlink.link(interface.ifindex).arphrd == ARPHRD_LOOPBACK:
            doubts.clear()
    return OwnPackets(tuple(packets), tuple(notes), tuple(doubts))


def _ends(connection: SshConnection) -> Ends:
    return Ends(*connection.ends, connection.outbound, connection.mosh)
