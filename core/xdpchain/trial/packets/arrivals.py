# SPDX-License-Identifier: Apache-2.0
"""Find where the packets of a connection arrive, and in which encapsulation: on the device of its route and
all devices below it, with the link-layer headers, VLAN tags and tunnels around them there.

Tunnel packets are followed to the device of the route to the tunnel's remote, also through nested tunnels. If
the kernel does not report a tunnel's remote, that is recorded as a doubt: its packets may arrive anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_address

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.link_layer import Start, link_layer
from xdpchain.sys.netlink import TUNNELS, LinkInfo, NeighborEntry, Netlink, Way
from xdpchain.sys.netlink.tunnels import IpsecPolicy, IpsecState, Tunnel

from .frames import Host
from .wrapping import Ethernet, Inside, Tag, Wrapping

__all__ = ["Arrival", "Arrivals"]

UNKNOWN_MAC = Host.number(254).mac
NO_MAC = bytes(6)
DEEPEST = 8
"""Deepest nesting of tunnels."""
MOST_REMOTES = 32
"""Most remotes of one tunnel that are followed."""
PROTOCOLS = {"TCP": 6, "UDP": 17}


@frozen
class Arrival:
    """Packets arrive on the device with this ifindex, in ``wrappings`` (innermost first). ``note`` says which
    part of them is made up.
    """

    ifindex: int
    wrappings: tuple[Wrapping, ...]
    note: str = ""


@dataclass
class Arrivals:
    """Finds arrivals in one network namespace. Devices, possibly thousands, are listed once and only if there
    is a connection to look for. ``doubts``: where packets may arrive that can't be determined, a sentence
    each.
    """

    netlink: Netlink
    doubts: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._neighbors: dict[int, tuple[NeighborEntry, ...]] = {}
        self._ipsec: tuple[tuple[IpsecPolicy, ...], tuple[IpsecState, ...]] | None = None

    @cached_property
    def _links(self) -> dict[int, LinkInfo]:
        return {link.ifindex: link for link in self.netlink.links()}

    def of(self, way: Way, source: str, destination: str, protocol: str) -> tuple[Arrival, ...]:
        """The arrivals of packets from ``source`` to ``destination``; ``way``: our route to ``source``."""
        arrivals = self._routed(way, source, destination, (), 0, PROTOCOLS[protocol])
        return tuple(dict.fromkeys(arrivals))

    def _routed(
        self,
        way: Way,
        source: str,
        destination: str,
        around: tuple[Wrapping, ...],
        depth: int,
        protocol: int,
    ) -> Iterator[Arrival]:
        """The arrivals of packets whose (outermost) IP header has these addresses."""
        if depth > DEEPEST:
            self.doubts[f"tunnels are nested more than {DEEPEST} deep"] = None
            return
        device = self._links.get(way.ifindex)
        if device is None:
            return
        covered = [] if protocol == 50 else self._policies(source, destination, protocol)
        for policy in covered:
            remote, local = policy.outer_source or source, policy.outer_destination or destination
            for inside in self._security(remote, local):
                if (outer := self._way(remote, local, None)) is not None:
                    yield from self._routed(outer, remote, local, (*around, inside), depth + 1, 50)
        if covered:
            return
        note = ""
        if link_layer(device.arphrd).start is Start.ETHERNET:
            hop = way.gateway or source
            mac = _mac(device.address) or NO_MAC
            known = self._mac_of(way.ifindex, hop)
            local_only = device.kind is None and mac == NO_MAC
            if known is None and not local_only:
                note = (
                    f"the MAC of {hop}, from which your ssh packets arrive, is not known: a made-up "
                    f"one is used"
                )
            sender = known or (NO_MAC if local_only else UNKNOWN_MAC)
            around = (*around, Ethernet(mac, sender))
        yield from self._on(device, around, note, depth)

    def _on(
        self,
        device: LinkInfo,
        around: tuple[Wrapping, ...],
        note: str,
        depth: int,
        seen: frozenset[int] = frozenset(),
    ) -> Iterator[Arrival]:
        """The arrivals on a device and those below it."""
        if device.ifindex in seen:
            return
        seen |= {device.ifindex}
        yield Arrival(device.ifindex, around, note)
        if device.tunnel is not None or device.kind in TUNNELS:
            yield from self._below_tunnel(device, around, depth)
        elif device.lower and (lower := self._links.get(device.lower)) is not None:
            if device.vlan is None:
                yield from self._on(lower, around, note, depth, seen)
            else:
                yield from self._on(lower, (*around, Tag(device.vlan)), note, depth, seen)
                if self._strips(lower):
                    yield from self._on(lower, around, note, depth, seen)
        for port in self._links.values():
            if port.master == device.ifindex:
                yield from self._on(port, around, note, depth, seen)

    def _strips(self, lower: LinkInfo) -> bool:
        """Whether a device strips VLAN tags before XDP programs see its packets."""
        return any(
            offload.name == "rx-vlan-hw-parse" and offload.on
            for offload in self.netlink.offloads(lower.ifindex)
        )

    # Tunnels

    def _below_tunnel(self, device: LinkInfo, around: tuple[Wrapping, ...], depth: int) -> Iterator[Arrival]:
        tunnel = device.tunnel or Tunnel()
        insides = self._insides(device, tunnel, around)
        reached = False
        for inside in insides:
            way = self._way(inside.remote, inside.local or None, tunnel.through)
            if way is None:
                continue
            local = inside.local or way.source
            if not local:
                continue
            reached = True
            told = replace(inside, local=local)
            outer = 17 if inside.kind in ("vxlan", "geneve", "wireguard") else 0
            yield from self._routed(way, inside.remote, local, (*around, told), depth + 1, outer)
        if not reached:
            name = device.kind or "tunnel"
            what = f"your connection arrives through {device.name} ({name})"
            self.doubts[f"{what}, and the kernel does not report where that tunnel's packets arrive"] = None

    def _insides(self, device: LinkInfo, tunnel: Tunnel, around: tuple[Wrapping, ...]) -> list[Inside]:
        """The possible encapsulations of a tunnel's packets; our address is "" if the route determines it."""
        kind, local = device.kind or "", tunnel.local or ""
        if tunnel.external:
            return []
        if kind == "wireguard":
            return self._wireguard(device)
        if kind in ("vti", "vti6", "xfrm"):
            return self._esp_of(tunnel)
        remotes = [] if tunnel.remote is None or ip_address(tunnel.remote).is_multicast else [tunnel.remote]
        if kind == "vxlan":
            sender = next(
                (wrapping.source.hex(":") for wrapping in around[::-1] if isinstance(wrapping, Ethernet)), ""
            )
            try:
                known = self.netlink.forwarding(device.ifindex)
            except XdpChainError:
                known = ()
            exact = [remote for mac, remote in known if mac == sender]
            remotes = exact or list(dict.fromkeys([*remotes, *(remote for _, remote in known)]))
            remotes = [remote for remote in remotes if not ip_address(remote).is_multicast]
        if len(remotes) > MOST_REMOTES:
            self.doubts[f"{device.name} has {len(remotes)} remotes, of which {MOST_REMOTES} are tried"] = None
        return [
            Inside(kind, remote, local, tunnel.ident, tunnel.port, None, tunnel.numbered, tunnel.limited)
            for remote in remotes[:MOST_REMOTES]
        ]

    def _wireguard(self, device: LinkInfo) -> list[Inside]:
        try:
            port, peers = self.netlink.wireguard(device.ifindex)
        except XdpChainError:
            return []
        return [
            Inside("wireguard", peer.endpoint[0], "", None, port, peer.endpoint[1])
            for peer in peers
            if peer.endpoint is not None
        ]

    def _esp_of(self, tunnel: Tunnel) -> list[Inside]:
        """ESP for a VTI device, whose addresses the packets carry, or an XFRM interface, which uses its
        states'.
        """
        if tunnel.remote and tunnel.local:
            return self._security(tunnel.remote, tunnel.local)
        states = [state for state in self._policy_base()[1] if self._is_ours(state.destination)]
        return [_esp(state) for state in states]

    # IPsec

    def _policy_base(self) -> tuple[tuple[IpsecPolicy, ...], tuple[IpsecState, ...]]:
        if self._ipsec is None:
            try:
                self._ipsec = self.netlink.ipsec()
            except XdpChainError as error:
                self.doubts[
                    f"whether IPsec carries your connection is unknown: {error.why or error.what}"
                ] = None
                self._ipsec = (), ()
        return self._ipsec

    def _policies(self, source: str, destination: str, protocol: int) -> list[IpsecPolicy]:
        return [policy for policy in self._policy_base()[0] if policy.covers(source, destination, protocol)]

    def _security(self, remote: str, local: str) -> list[Inside]:
        states = [
            state for state in self._policy_base()[1] if (state.source, state.destination) == (remote, local)
        ]
        return [_esp(state) for state in states] or [Inside("esp", remote, local)]

    # What the kernel knows

    def _is_ours(self, address: str) -> bool:
        return any(
            text.partition("/")[0] == address
            for ifindex in self._links
            for text in self.netlink.addresses(ifindex)
        )

    def _way(self, remote: str, local: str | None, through: int | None) -> Way | None:
        try:
            return self.netlink.way(remote, local, through)
        except XdpChainError:
            return None

    def _mac_of(self, ifindex: int, address: str) -> bytes | None:
        wanted = ip_address(address)
        if ifindex not in self._neighbors:
            self._neighbors[ifindex] = self.netlink.neighbors(ifindex)
        entries = self._neighbors[ifindex]
        return next((_mac(entry.mac) for entry in entries if ip_address(entry.address) == wanted), None)


NO_MAC = bytes(6)


def _esp(state: IpsecState) -> Inside:
    return Inside("esp", state.source, state.destination, state.spi, state.port)


def _mac(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text.replace(":", ""))
