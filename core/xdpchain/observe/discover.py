# SPDX-License-Identifier: Apache-2.0
"""The interfaces of a namespace and what runs on them, whichever tool loaded it. Everything is read from the
kernel; nothing is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.interface import Interface
from xdpchain.model.running import Device, Running
from xdpchain.sys.all_netns import named_spellings, spellings
from xdpchain.sys.netlink import LinkInfo, Netlink, reuse_sockets

from .pending_state import with_pending, with_pending_of_one

__all__ = [
    "Everywhere",
    "Glance",
    "glance",
    "interfaces",
    "look",
    "look_again",
    "look_at",
    "look_at_hook",
    "named_spellings",
    "reuse_sockets",
    "spellings",
    "survey",
    "survey_all",
    "traffic",
]

TRIES = 10
"""How often a chain is reread if it changes while being read."""


def survey(netns: str | None = None) -> tuple[Running, ...]:
    """Every interface of a namespace and what it runs, by ifindex. Interfaces that appear or disappear
    meanwhile show up in the next reading. Raises NotFound for an unknown namespace.
    """
    with Netlink(netns) as netlink:

        def read() -> tuple[Running, ...]:
            features = netlink.xdp_features()
            running = []
            for link in netlink.links(settled=False):
                with contextlib.suppress(NotFound):  # it is gone
                    running.append(_settled(link, netns, netlink, features))
            return tuple(running)

        return with_pending(netlink.inode, read)


class Everywhere(NamedTuple):
    """What runs in the network namespaces, by their spelling (None: our own), and what can't be seen, in
    words.
    """

    found: dict[str | None, tuple[Running, ...]]
    unseen: tuple[str, ...]


def survey_all() -> Everywhere:
    """`survey` of every network namespace that can be reached, without any that end meanwhile."""
    places, complete = spellings()
    found, unseen = {}, []
    for place in places:
        try:
            found[place] = survey(place)
        except NotFound:
            continue
        except XdpChainError as error:
            unseen.append(f"network namespace {place}: {error}")
    if not complete:
        unseen.append("network namespaces of processes outside this PID namespace")
    return Everywhere(found, tuple(unseen))


class Glance(NamedTuple):
    """The interfaces of a network namespace by name (None: our own), and those with XDP programs; None: it
    can't be read, or is gone.
    """

    netns: str | None
    interfaces: tuple[str, ...] | None
    with_xdp: tuple[str, ...] = ()


def glance(places: Iterable[str | None]) -> Iterator[Glance]:
    """Where programs run, one namespace after the other: a fifth of the cost of `survey_all`."""
    for place in places:
        try:
            with Netlink(place) as netlink:
                links = netlink.links(settled=False)
        except XdpChainError:
            yield Glance(place, None)
            continue
        with_xdp = tuple(link.name for link in links if link.xdp)
        yield Glance(place, tuple(link.name for link in links), with_xdp)


def interfaces(netns: str | None = None) -> tuple[Interface, ...]:
    """Every interface of a namespace, by ifindex, whatever it runs. Raises NotFound (no such namespace)."""
    with Netlink(netns) as netlink:
        return tuple(Interface(name, ifindex, netns) for ifindex, name in netlink.names().items())


def traffic(netns: str | None = None) -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
    """What each interface of a namespace counts, by ifindex: received and sent packets and bytes, as in
    `Device`. A tenth of the cost of a `survey`. Raises NotFound (no such namespace).
    """
    with Netlink(netns) as netlink:
        return {
            ifindex: ((counted.rx_packets, counted.rx_bytes), (counted.tx_packets, counted.tx_bytes))
            for ifindex, counted in netlink.stats().items()
        }


def look(name: str | int, netns: str | None = None, *, through: Netlink | None = None) -> Running:
    """One interface, by name or ifindex, and what it runs; ``through``: netlink sockets open in its
    namespace. Raises NotFound.
    """
    with contextlib.ExitStack() as held:
        netlink = through or held.enter_context(Netlink(netns))
        link = netlink.link(name)
        program = link.xdp[0].prog_id if link.xdp else None
        return with_pending_of_one(
            netlink.inode, link.ifindex, program, lambda: look_at_hook(name, netns, netlink)
        )


def look_at(names: Iterable[str], netns: str | None = None) -> dict[str, Running]:
    """Those of these interfaces that are there, by name, as `look`. Raises NotFound (no such namespace)."""
    with Netlink(netns) as netlink:

        def read() -> tuple[Running, ...]:
            found = []
            for name in names:
                with contextlib.suppress(NotFound):
                    found.append(look_at_hook(name, netns, netlink))
            return tuple(found)

        return {running.interface.name: running for running in with_pending(netlink.inode, read)}


def look_again(before: Running, netlink: Netlink) -> Running:
    """The interface of this name now, through sockets in its namespace. If it is the same device, its driver
    is not asked for again, nor its features, unless a first program came or the last went. Raises NotFound.
    """
    where = before.interface
    return with_pending_of_one(
        netlink.inode,
        where.ifindex,
        before.hook.prog_id if before.hook else None,
        lambda: look_at_hook(where.name, where.netns, netlink, before),
    )


def look_at_hook(
    name: str | int, netns: str | None, netlink: Netlink, before: Running | None = None
) -> Running:
    """As `look`, or `look_again` with ``before``, without pending changes and their outcomes."""
    link = netlink.link(name)
    known, asked = None, True
    if before is not None:
        there = (before.interface.ifindex, before.device.netns_inode)
        known = before.device if there == (link.ifindex, netlink.inode) else None
        asked = known is None or bool(link.xdp) is not bool(before.hooks)
    features = netlink.xdp_features(link.ifindex) if asked else None
    return _settled(link, netns, netlink, features, known)


def _settled(
    link: LinkInfo,
    netns: str | None,
    netlink: Netlink,
    features: dict[int, frozenset[str]] | None,
    known: Device | None = None,
) -> Running:
    """What the interface runs; read again if somebody swapped the program meanwhile."""
    for _ in range(TRIES):
        device = _device(link, netns, netlink, features, known)
        if not link.xdp:
            return Running(device)
        # Imported late, as in `hook`: commands that meet no chain then need a third fewer modules.
        from .hook import read_hook

        running = read_hook(device, link.xdp)
        if running.chain is not None or not running.hooks:
            break
        # The program or its pins may have disappeared just now: is the hook still the same?
        try:
            again = netlink.link(link.ifindex)
        except NotFound:
            break
        if again.xdp == link.xdp:
            break
        link = again
    return running


def _device(
    link: LinkInfo,
    netns: str | None,
    netlink: Netlink,
    features: dict[int, frozenset[str]] | None,
    known: Device | None,
) -> Device:
    driver, able = (known.driver, known.features) if known else (None, None)
    if driver is None:
        driver = netlink.driver(link.ifindex)
    if features is not None:
        able = features.get(link.ifindex, frozenset())
    return Device(
        interface=Interface(link.name, link.ifindex, netns),
        up=link.up,
        operstate=link.operstate,
        mtu=link.mtu,
        driver=driver,
        features=able,
        rx=(link.stats.rx_packets, link.stats.rx_bytes),
        tx=(link.stats.tx_packets, link.stats.tx_bytes),
        address=link.address,
        arphrd=link.arphrd,
        kind=link.kind,
        netns_inode=netlink.inode,
        netns_cookie=netlink.cookie(),
    )
