# SPDX-License-Identifier: Apache-2.0
"""Gather the doctor's facts about interfaces, in their namespace."""

from __future__ import annotations

from collections.abc import Iterable

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdpchain.observe.counters import DispatcherCounters
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.netlink import Channels, LinkInfo, Netlink

from .facts import Facts, Peer, Queues, Switch, Upper

__all__ = ["facts_of"]


def facts_of(found: Iterable[Running], netns: str | None) -> tuple[Facts, ...]:
    """The facts about each of these interfaces, without those that are gone by now."""
    with Netlink(netns) as netlink:
        links = {link.ifindex: link for link in netlink.links()}
        cpus = possible_cpus()
        facts = []
        for running in found:
            link = links.get(running.interface.ifindex)
            if link is not None:
                facts.append(_facts(running, link, links, netlink, cpus))
    return tuple(facts)


def _facts(
    running: Running, link: LinkInfo, links: dict[int, LinkInfo], netlink: Netlink, cpus: int
) -> Facts:
    ifindex = link.ifindex
    try:
        channels = netlink.channels(ifindex)
        offloads = {offload.name: Switch(offload.on, offload.fixed) for offload in netlink.offloads(ifindex)}
    except XdpChainError:  # it disappeared, or the driver's answer makes no sense: leave these unknown
        channels, offloads = None, {}
    master = links.get(link.master) if link.master is not None else None
    lower = links.get(link.lower) if link.lower is not None else None
    return Facts(
        running=running,
        cpus=cpus,
        kind=link.kind,
        loopback=link.kind is None and link.address == "00:00:00:00:00:00",
        master=_upper(master, link.slave_kind) if master is not None else None,
        uppers=tuple(_upper(other) for other in links.values() if other.lower == ifindex != other.ifindex),
        ports=tuple(other.name for other in links.values() if other.master == ifindex),
        lower=lower.name if lower is not None and lower.ifindex != ifindex else None,
        peer=_peer(link, netlink),
        queues=_queues(link, channels),
        offloads=offloads,
        packets=_packets(running),
    )


def _packets(running: Running) -> tuple[int, ...]:
    """Packets counted by the chain's own counters, by CPU."""
    if running.counting is None or running.chain is None:
        return ()
    try:
        with DispatcherCounters(running.counting, running.chain) as reader:
            return tuple(counts.total_packets for counts in reader.read_cpus())
    except XdpChainError:  # it disappeared, or may not be read
        return ()


def _peer(link: LinkInfo, netlink: Netlink) -> Peer | None:
    peer = netlink.peer(link) if link.kind == "veth" else None
    if peer is None:
        return None
    peer_link, netns = peer
    try:
        with Netlink(netns) as there:
            queues = _queues(peer_link, there.channels(peer_link.ifindex))
    except XdpChainError:
        queues = None
    known = (queues.tx, queues.max_tx) if queues is not None else (None, None)
    return Peer(peer_link.name, peer_link.mtu, netns, *known)


def _upper(link: LinkInfo, kind: str | None = None) -> Upper:
    return Upper(link.name, link.kind or kind or "device", bool(link.xdp))


def _queues(link: LinkInfo, channels: Channels | None) -> Queues | None:
    """Queues as reported by ethtool; None if the driver does not report them."""
    if channels is None:
        return None
    return Queues(
        channels.rx + channels.combined,
        channels.tx + channels.combined,
        max(channels.max_rx, channels.max_combined),
        max(channels.max_tx, channels.max_combined),
        bool(channels.combined),
    )
