# SPDX-License-Identifier: Apache-2.0
"""Find out about interfaces what the doctor wants to know, in their namespace."""

from __future__ import annotations

from collections.abc import Iterable

from xdpchain.errors import XdpChainError
from xdpchain.running import Owner, Running
from xdpchain.sys import bpf
from xdpchain.sys.holders import Holder, holders
from xdpchain.sys.libbpf import possible_cpus
from xdpchain.sys.netlink import Channels, LinkInfo, Netlink
from xdpchain.sys.pinned import Pins, find_pins

from .facts import Facts, Peer, Queues, Switch, Upper
from .whose import Evidence, Held

__all__ = ["evidence_of", "facts_of"]


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
    peer = links.get(link.peer_ifindex) if link.peer_ifindex and link.peer_netnsid is None else None
    return Facts(
        running=running,
        cpus=cpus,
        kind=link.kind,
        loopback=link.kind is None and link.address == "00:00:00:00:00:00",
        master=_upper(master, link.slave_kind) if master is not None else None,
        uppers=tuple(_upper(one) for one in links.values() if one.lower == number != one.ifindex),
        ports=tuple(one.name for one in links.values() if one.master == number),
        lower=lower.name if lower is not None and lower.ifindex != number else None,
        peer=Peer(peer.name, peer.mtu) if peer is not None else None,
        queues=_queues(link, channels),
        offloads=offloads,
    )


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


def evidence_of(found: Iterable[Running]) -> dict[int, Evidence]:
    """What shows of the programs that are not ours, by ifindex. Takes a walk over all processes and pins,
    if there are any such programs.
    """
    foreign = [one for one in found if one.hooks and one.chain is None and one.owner is Owner.FOREIGN]
    if not foreign:
        return {}
    pins = find_pins()
    programs = {hook.prog_id for one in foreign for hook in one.hooks}
    links = {hook.link_id for one in foreign for hook in one.hooks if hook.link_id is not None}
    holding, complete = holders(programs, links)
    return {one.interface.ifindex: _evidence(one, pins, holding, complete) for one in foreign}


def _evidence(running: Running, pins: Pins, holding: tuple[Holder, ...], complete: bool) -> Evidence:
    hook = running.hooks[0]
    held = tuple(
        Held(one.pid, one.command, one.holds)
        for one in holding
        if one.id == (hook.link_id if one.holds == "link" else hook.prog_id)
    )
    names, numbers = _maps(hook.prog_id)
    link_pins = pins.links.get(hook.link_id, ()) if hook.link_id is not None else ()
    paths = [*link_pins, *pins.programs.get(hook.prog_id, ())]
    map_pins = tuple(path for number in numbers for path in pins.maps.get(number, ()))
    return Evidence(
        interface=running.interface.name,
        mode=hook.mode,
        prog_id=hook.prog_id,
        name=hook.name,
        link_id=hook.link_id,
        maps=names,
        link_pins=tuple(link_pins),
        pins=(*paths, *map_pins),
        held=held,
        complete=complete and pins.complete,
    )


def _maps(program: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names, numbers = [], []
    try:
        with bpf.prog_by_id(program) as fd:
            for number in bpf.prog_map_ids(fd):
                with bpf.map_by_id(number) as one:
                    names.append(bpf.map_info(one).name)
                    numbers.append(number)
    except bpf.BpfError:  # gone meanwhile, or no permission
        pass
    return tuple(names), tuple(numbers)
