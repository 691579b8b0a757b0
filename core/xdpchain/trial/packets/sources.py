# SPDX-License-Identifier: Apache-2.0
"""Sources of packets: the built-in set for an interface, the operator's ssh connection, or a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from itertools import islice

from xdpchain.errors import InvalidInput, NotFound, PermissionDenied, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.interface import Interface
from xdpchain.model.link_layer import LinkLayer, link_layer
from xdpchain.sys.netlink import LinkInfo, NeighborEntry, Netlink

from .builtin import builtin
from .describe import describe
from .frames import Host
from .hexdump import read_hex
from .own import OwnTraffic
from .packet import Packet
from .pcap import is_capture, read_capture

__all__ = [
    "BUILTIN",
    "MOST",
    "OWN",
    "Supply",
    "builtin_packets",
    "file_packets",
    "own_packets",
    "packets_of",
    "read_packets",
    "read_source",
]

BUILTIN = "builtin"
OWN = "ssh"
STDIN = "-"

MOST = 10_000
"""Most packets read from a file; trying one on both sides takes about 0.2 ms."""
LARGEST = 1 << 26
"""Most bytes read from a file."""
LARGEST_HEX = 1 << 24
"""Most bytes read from a hex dump."""

ANYWHERE = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}
"""Addresses that no host has (RFC 5737, RFC 3849), so their route is the default route."""
UNKNOWN_MAC = Host.number(254).mac


@frozen
class Supply:
    """Packets, and notes on their limitations."""

    packets: tuple[Packet, ...] = ()
    notes: tuple[str, ...] = ()

    def plus(self, other: Supply) -> Supply:
        return Supply((*self.packets, *other.packets), (*self.notes, *other.notes))


def packets_of(source: str, interface: Interface) -> Supply:
    """The packets of a source: ``builtin`` (including those of the operator's ssh connection if it comes in
    here), ``ssh`` (only those), or a file; ``-`` is standard input.

    Raises NotFound, PermissionDenied, InvalidInput.
    """
    if source == BUILTIN:
        return builtin_packets(interface).plus(own_packets(interface) or Supply())
    if source == OWN:
        supply = own_packets(interface)
        if supply is None:
            raise NotFound(
                f"no ssh connection of yours arrives through {interface}",
                "neither SSH_CONNECTION nor the kernel's socket list shows one",
                f"Use {BUILTIN}, or a file",
            )
        return supply
    return file_packets(source, _layer(interface))


def file_packets(source: str, layer: LinkLayer) -> Supply:
    """The packets of a file, for a device with this link layer; ``-`` is standard input. Raises NotFound,
    PermissionDenied, InvalidInput.
    """
    data, name = read_source(source)
    return read_packets(data[:LARGEST], name, layer, whole=len(data) <= LARGEST)


def read_packets(data: bytes, name: str, layer: LinkLayer, *, whole: bool = True) -> Supply:
    """The first `MOST` packets of a capture (pcap, pcapng) or hex dump, for a device with this link layer.
    Without ``whole`` the data are only the start of a file, so a last incomplete packet is left out. Raises
    InvalidInput.
    """
    if len(data) > LARGEST_HEX and not is_capture(data):
        data, whole = data[:LARGEST_HEX], False
    packets: list[Packet] = []
    more = not whole
    try:
        for packet in islice(_packets(data, name, layer), MOST + 1):
            packets.append(packet)
    except InvalidInput:
        if whole or not packets:
            raise
    if packets and not whole and not is_capture(data):
        packets.pop()  # it may be incomplete
    if len(packets) > MOST:
        del packets[MOST:]
        more = True
    if not packets:
        raise InvalidInput(f"{name} has no packets")
    return Supply(tuple(packets), (f"{name}: only the first {len(packets)} packets",) if more else ())


def _packets(data: bytes, name: str, layer: LinkLayer) -> Iterator[Packet]:
    if is_capture(data):
        for captured in read_capture(data, name, layer):
            yield Packet(describe(captured.data, layer), captured.data, length=captured.length)
        return
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} can't be read", "it is not pcap, pcapng or hexadecimal text") from None
    for frame in read_hex(text, name):
        yield Packet(describe(frame, layer), frame)


def _layer(interface: Interface) -> LinkLayer:
    with Netlink(interface.netns) as netlink:
        link = netlink.link(interface.ifindex)
    return link_layer(link.arphrd, link.kind)


def builtin_packets(interface: Interface) -> Supply:
    """The built-in set, from a neighbor's to the interface's own addresses if it has any."""
    with Netlink(interface.netns) as netlink:
        link = netlink.link(interface.ifindex)
        addresses = [ip_interface(text) for text in netlink.addresses(interface.ifindex)]
        neighbors = netlink.neighbors(interface.ifindex)
        gateways = {version: _gateway(netlink, interface, version) for version in (4, 6)}
    near, peer = _hosts(link, addresses, neighbors, gateways)
    has = {address.version for address in addresses}
    missing = [f"IPv{version}" for version in (4, 6) if version not in has]
    note = f"{interface.name} has no {' or '.join(missing)} address: such packets use a made-up one"
    return Supply(builtin(near, peer, link_layer(link.arphrd, link.kind)), (note,) if missing else ())


def own_packets(interface: Interface) -> Supply | None:
    """The packets of the operator's own connections as they arrive through the interface; None if none is
    known to. Raises what `OwnTraffic.into` raises.
    """
    own = OwnTraffic().into(interface)
    return Supply(own.packets, (*own.notes, *own.doubts)) if own.packets else None


def _gateway(netlink: Netlink, interface: Interface, version: int) -> str | None:
    try:
        way = netlink.way(ANYWHERE[version], None)
    except XdpChainError:
        return None
    return way.gateway if way.ifindex == interface.ifindex else None


def _hosts(
    link: LinkInfo,
    addresses: list[IPv4Interface | IPv6Interface],
    neighbors: tuple[NeighborEntry, ...],
    gateways: dict[int, str | None],
) -> tuple[Host, Host]:
    """The interface, and the sender of its packets: the gateway, a neighbor, or a made-up host."""
    made_up = Host.number(1), Host.number(2)
    fours = [address for address in addresses if isinstance(address, IPv4Interface)]
    sixes = [address for address in addresses if isinstance(address, IPv6Interface)]
    sixes.sort(key=lambda address: address.is_link_local)
    four = fours[0].ip if fours else made_up[0].ipv4
    six = sixes[0].ip if sixes else made_up[0].ipv6
    near = Host(_mac(link.address) or made_up[0].mac, four, six)
    peer4 = _neighbor(gateways[4], neighbors, 4) or (_beside(fours[0]) if fours else made_up[1].ipv4)
    peer6 = _neighbor(gateways[6], neighbors, 6) or (_beside(sixes[0]) if sixes else made_up[1].ipv6)
    assert isinstance(peer4, IPv4Address)
    assert isinstance(peer6, IPv6Address)
    mac = _mac_of(neighbors, str(peer4)) or _mac_of(neighbors, str(peer6)) or UNKNOWN_MAC
    return near, Host(mac, peer4, peer6)


def _neighbor(
    gateway: str | None, neighbors: tuple[NeighborEntry, ...], version: int
) -> IPv4Address | IPv6Address | None:
    if gateway is not None and ip_address(gateway).version == version:
        return ip_address(gateway)
    for neighbor in neighbors:
        address = ip_address(neighbor.address)
        if address.version == version and not address.is_multicast:
            return address
    return None


def _beside(own: IPv4Interface | IPv6Interface) -> IPv4Address | IPv6Address:
    """A neighboring address, in the same network if possible."""
    after = own.ip + 1
    return after if after in own.network else own.ip - 1


def _mac_of(neighbors: tuple[NeighborEntry, ...], address: str) -> bytes | None:
    wanted = ip_address(address)
    return next(
        (_mac(neighbor.mac) for neighbor in neighbors if ip_address(neighbor.address) == wanted), None
    )


def _mac(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text.replace(":", ""))


def read_source(source: str) -> tuple[bytes, str]:
    """The bytes of a file (at most one more than `LARGEST`) and its name. Raises NotFound, PermissionDenied,
    InvalidInput.
    """
    if source == STDIN:
        data = sys.stdin.buffer.read(LARGEST + 1) if sys.stdin else b""
        name = "standard input"
    else:
        name = source
        try:
            with open(source, "rb") as file:
                data = file.read(LARGEST + 1)
        except FileNotFoundError:
            raise NotFound(
                f"there is no file {source}", "", f"Use a capture, a hex dump, or {BUILTIN}"
            ) from None
        except PermissionError as error:
            raise PermissionDenied(f"{source} can't be read", error.strerror or "") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InvalidInput(f"{source} can't be read", why) from None
    return data, name
