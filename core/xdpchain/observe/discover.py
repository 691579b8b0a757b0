# SPDX-License-Identifier: Apache-2.0
"""The interfaces of a namespace and what runs on them, whichever tool loaded it. Everything is read from the
kernel; nothing is changed.
"""

from __future__ import annotations

import contextlib

from xdpchain.errors import NotFound
from xdpchain.model.chain import Interface
from xdpchain.model.running import Device, Running
from xdpchain.sys import netns as namespaces
from xdpchain.sys.netlink import LinkInfo, Netlink

from .pending_state import with_pending

__all__ = ["interfaces", "look", "survey"]

TRIES = 10
"""Most retries if a chain changes while it is read."""


def survey(netns: str | None = None) -> tuple[Running, ...]:
    """Every interface of a namespace and what it runs, by ifindex. Interfaces that come or go meanwhile
    appear in the next survey. Raises NotFound for an unknown namespace.
    """
    inode = namespaces.inode(netns)
    with Netlink(netns) as netlink:

        def read() -> tuple[Running, ...]:
            features = netlink.xdp_features()
            running = []
            for link in netlink.links(settled=False):
                with contextlib.suppress(NotFound):  # it is gone
                    running.append(_settled(link, (netns, inode), netlink, features))
            return tuple(running)

        return with_pending(inode, read)


def interfaces(netns: str | None = None) -> tuple[Interface, ...]:
    """Every interface of a namespace, by ifindex, whatever it runs. Raises NotFound (no such namespace)."""
    with Netlink(netns) as netlink:
        return tuple(Interface(link.name, link.ifindex, netns) for link in netlink.links(settled=False))


def look(name: str, netns: str | None = None, *, through: Netlink | None = None) -> Running:
    """One interface and what it runs; ``through``: netlink sockets open in its namespace. Raises NotFound."""
    inode = namespaces.inode(netns)
    with contextlib.ExitStack() as held:
        netlink = through or held.enter_context(Netlink(netns))

        def read() -> tuple[Running, ...]:
            link = netlink.link(name)
            return (_settled(link, (netns, inode), netlink, netlink.xdp_features(link.ifindex)),)

        return with_pending(inode, read)[0]


def _settled(
    link: LinkInfo,
    namespace: tuple[str | None, int],
    netlink: Netlink,
    features: dict[int, frozenset[str]] | None,
) -> Running:
    """What the interface runs; read again if the program was swapped meanwhile."""
    for _ in range(TRIES):
        device = _device(link, namespace, netlink, features)
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
    namespace: tuple[str | None, int],
    netlink: Netlink,
    features: dict[int, frozenset[str]] | None,
) -> Device:
    netns, inode = namespace
    return Device(
        interface=Interface(link.name, link.ifindex, netns),
        up=link.up,
        operstate=link.operstate,
        mtu=link.mtu,
        driver=netlink.driver(link.ifindex),
        features=None if features is None else features.get(link.ifindex, frozenset()),
        rx=(link.stats.rx_packets, link.stats.rx_bytes),
        tx=(link.stats.tx_packets, link.stats.tx_bytes),
        address=link.address,
        arphrd=link.arphrd,
        kind=link.kind,
        netns_inode=inode,
        netns_cookie=netlink.cookie(),
    )
