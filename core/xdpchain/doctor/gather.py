# SPDX-License-Identifier: Apache-2.0
"""Find out about interfaces what the doctor wants to know, in their namespace."""

from __future__ import annotations

from collections.abc import Iterable

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdpchain.observe.counters import DispatcherCounters
from xdpchain.sys.libbpf import possible_cpus
from xdpchain.sys.netlink import Channels, LinkInfo, Netlink

from .facts import Facts, Peer, Queues, Switch, Upper

__all__ = ["facts_of"]


def facts_of(found: Iterable[Running], netns: str | None) -> tuple[Facts, ...]:
    """The facts about each of these interfaces; one that is gone by now is left out."""
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
    number = link.ifindex
    try:
        channels = netlink.channels(number)
        offloads = {one.name: Switch(one.on, one.fixed) for one in netlink.offloads(number)}
    except XdpChainError:  # it went away, or its driver answers strangely: these facts are not known then
        channels, offloads = None, {}
    master = links.get(link.master) if link.master is not None else None
    lower = links.get(link.lower) if link.lower is not None else None
    return Facts(
        running=running,
        cpus=cpus,
        kind=link.kind,
        loopback=link.kind is None and link.address == "00:00:00:00:00:00",
        master=_upper(master, link.slave_kind) if master is not None else None,
        uppers=tuple(_upper(one) for one in links.values() if one.lower == number != one.ifindex),
        ports=tuple(one.name for one in links.values() if one.master == number),
        lower=lower.name if lower is not None and lower.ifindex != number else None,
        peer=_peer(link, netlink),
        queues=_queues(link, channels),
        offloads=offloads,
        packets=_packets(running),
    )


def _packets(running: Running) -> tuple[int, ...]:
    """What a chain that counts by itself counted, CPU by CPU."""
    if running.counting is None or running.chain is None:
        return ()
    try:
        with DispatcherCounters(running.counting, running.chain) as reader:
            return tuple(counts.total_packets for counts in reader.read_cpus())
    except XdpChainError:  # it went away, or may not be read
        return ()


def _peer(link: LinkInfo, netlink: Netlink) -> Peer | None:
    found = netlink.peer(link) if link.kind == "veth" else None
    if found is None:
        return None
    other, netns = found
    try:
        with Netlink(netns) as there:
            queues = _queues(other, there.channels(other.ifindex))
    except XdpChainError:
        queues = None
    known = (queues.tx, queues.max_tx) if queues is not None else (None, None)
    return Peer(other.name, other.mtu, netns, *known)


def _upper(link: LinkInfo, kind: str | None = None) -> Upper:
    return Upper(link.name, link.kind or kind or "device", bool(link.xdp))


def _queues(link: LinkInfo, channels: Channels | None) -> Queues | None:
    """By ethtool; a driver that does not tell has as many as were allocated, if it is hardware."""
    if channels is None:
        return None
    return Queues(
        channels.rx + channels.combined,
        channels.tx + channels.combined,
        max(channels.max_rx, channels.max_combined),
        max(channels.max_tx, channels.max_combined),
        bool(channels.combined),
    )
