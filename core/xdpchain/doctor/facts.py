# SPDX-License-Identifier: Apache-2.0
"""Facts about one interface, for the doctor to judge. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from xdpchain.frozen import frozen
from xdpchain.model.running import Running

__all__ = ["Facts", "Peer", "Queues", "Switch", "Upper"]


@frozen
class Queues:
    """Queues in use and their maxima. ``combined``: receive and transmit queues come in pairs."""

    rx: int
    tx: int
    max_rx: int
    max_tx: int
    combined: bool = False


@frozen
class Switch:
    """An offload: whether it is on, and whether it can't be changed."""

    on: bool
    fixed: bool


@frozen
class Upper:
    """A device on top of this one (VLAN, macvlan), or the bridge or bond that it belongs to."""

    name: str
    kind: str
    runs_xdp: bool = False


@frozen
class Peer:
    """The peer of a veth, if a command can reach it: in the same namespace or a named one (``netns``; None:
    the process's own). ``tx``: its transmit queues, None if unknown.
    """

    name: str
    mtu: int
    netns: str | None = None
    tx: int | None = None
    max_tx: int | None = None


@frozen
class Facts:
    """One interface. ``cpus`` is the number of possible CPUs, as drivers count them."""

    running: Running
    cpus: int
    kind: str | None = None
    loopback: bool = False
    master: Upper | None = None
    uppers: tuple[Upper, ...] = ()
    ports: tuple[str, ...] = ()
    lower: str | None = None
    peer: Peer | None = None
    queues: Queues | None = None
    offloads: Mapping[str, Switch] = field(default_factory=dict)
    packets: tuple[int, ...] = ()
    """Packets that the chain counted, by CPU."""

    @property
    def name(self) -> str:
        return self.running.interface.name

    @property
    def driver(self) -> str:
        return self.running.device.driver or "its driver"

    def on(self, offload: str) -> bool:
        """Whether an offload exists and is on."""
        switch = self.offloads.get(offload)
        return switch is not None and switch.on

    def fixed(self, offload: str) -> bool:
        """Whether an offload can't be changed."""
        switch = self.offloads.get(offload)
        return switch is None or switch.fixed
