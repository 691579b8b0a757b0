# SPDX-License-Identifier: Apache-2.0
"""The interfaces of a namespace and what runs on them, whichever tool loaded it. Everything is read from the
kernel; nothing is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.interface import Interface
from xdpchain.model.running import Device, Running
from xdpchain.sys import all_netns
from xdpchain.sys.netlink import LinkInfo, Netlink, reuse_sockets

from .pending_state import with_pending

__all__ = [
    "Everywhere",
    "interfaces",
    "look",
    "look_again",
    "look_at",
    "reuse_sockets",
    "survey",
    "survey_all",
]

TRIES = 10
"""How often a chain is reread if it changes while being read."""


def survey(netns: str | None = None, *, drivers: bool = True) -> tuple[Running, ...]:
    """Every interface of a namespace and what it runs, by ifindex. Interfaces that appear or disappear
    meanwhile show up in the next reading. Raises NotFound for an unknown namespace.

    Without ``drivers`` the features of devices, and the drivers of those on which nothing runs, stay unknown:
    they cost more than all else.
    """
    with Netlink(netns) as netlink:

        def read() -> tuple[Running, ...]:
            features = netlink.xdp_features() if drivers else None
            running = []
            for link in netlink.links(settled=False):
                with contextlib.suppress(NotFound):  # it is gone
                    running.append(_settled(link, netns, netlink, features, drivers=drivers))
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
    places, complete = all_netns.spellings()
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


def interfaces(netns: str | None = None) -> tuple[Interface, ...]:
    """Every interface of a namespace, by ifindex, whatever it runs. Raises NotFound (no such namespace)."""
    with Netlink(netns) as netlink:
        return tuple(Interface(name, ifindex, netns) for ifindex, name in netlink.names().items())


def look(name: str | int, netns: str | None = None, *, through: Netlink | None = None) -> Running:
    """One interface, by name or ifindex, and what it runs; ``through``: netlink sockets open in its
    namespace. Raises NotFound.
    """
    with contextlib.ExitStack() as held:
        return _look(name, netns, through or held.enter_context(Netlink(netns)))


def look_at(names: Iterable[str], netns: str | None = None) -> dict[str, Running]:
    """Those of these interfaces that are there, by name, as `look`. Raises NotFound (no such namespace)."""
    with Netlink(netns) as netlink:

        def read() -> tuple[Running, ...]:
            found = []
            for name in names:
                with contextlib.suppress(NotFound):
                    found.append(_read(name, netns, netlink))
            return tuple(found)

        return {running.interface.name: running for running in with_pending(netlink.inode, read)}


def look_again(before: Running, netlink: Netlink) -> Running:
    """The interface of this name now, through sockets in its namespace. If it is the same device, its driver
    is not asked for again, nor its features, unless a first program came or the last went. Raises NotFound.
    """
    return _look(before.interface.name, before.interface.netns, netlink, before)


def _look(name: str | int, netns: str | None, netlink: Netlink, before: Running | None = None) -> Running:
    return with_pending(netlink.inode, lambda: (_read(name, netns, netlink, before),))[0]


def _read(name: str | int, netns: str | None, netlink: Netlink, before: Running | None = None) -> Running:
    """Without what `with_pending` adds."""
    link = netlink.link(name)
    known, asked = None, True
    if before is not None:
        there = (before.interface.ifindex, before.device.netns_inode)
        known = before.device if there == (link.ifindex, netlink.inode) else None
        asked = known is None or bool(link.xdp) is not bool(before.hooks)
    features = netlink.xdp_features(link.ifindex) if asked else None
    return _settled(link, netns, netlink, features, known=known)


def _settled(
    link: LinkInfo,
    netns: str | None,
    netlink: Netlink,
    features: dict[int, frozenset[str]] | None,
    *,
    drivers: bool = True,
    known: Device | None = None,
) -> Running:
    """What the interface runs; read again if somebody swapped the program meanwhile."""
    for _ in range(TRIES):
        device = _device(link, netns, netlink, features, drivers=drivers, known=known)
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
    *,
    drivers: bool,
    known: Device | None,
) -> Device:
    driver, able = (known.driver, known.features) if known else (None, None)
    if driver is None and (drivers or link.xdp):
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
