# SPDX-License-Identifier: Apache-2.0
"""Read packets from capture files: pcap and pcapng. Pure.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. Timestamps are ignored. No library is used:
those on PyPI either support only one section and one interface of a pcapng file, or trust damaged lengths.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from xdpchain.errors import InvalidInput
from xdpchain.model.link_layer import LinkLayer, Start

__all__ = ["Captured", "is_capture", "read_capture"]

LINK_TYPES = {
    0: "BSD loopback",
    1: "Ethernet",
    12: "raw IP",
    14: "raw IP",
    101: "raw IP",
    105: "802.11",
    108: "OpenBSD loopback",
    113: "Linux cooked, of `-i any`",
    127: "802.11 with radiotap",
    228: "raw IPv4",
    229: "raw IPv6",
    276: "Linux cooked v2, of `-i any`",
}
TO_IP = {12: 0, 14: 0, 101: 0, 228: 0, 229: 0, 113: 16, 276: 20, 0: 4, 108: 4}
"""Bytes before the IP header, by link type, for bare-IP devices: libpcap captures many of them as Linux
cooked.
"""

PCAP = {0xA1B2C3D4: "microseconds", 0xA1B23C4D: "nanoseconds"}
MODIFIED = {0xA1B2CD34, 0xA1B2C3CD}
"""Obsolete variants with different record headers."""
SECTION = 0x0A0D0D0A
INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 1, 2, 3, 6
BYTE_ORDER = 0x1A2B3C4D
IF_FCSLEN = 13
LARGEST = 1 << 26
"""Longest plausible packet or block in bytes; tcpdump's limit is similar."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


class Captured(NamedTuple):
    """One frame: the captured bytes, and its length on the wire."""

    data: bytes
    length: int


@dataclass
class _Link:
    """An interface of a section: link type, snap length, and FCS bytes at the end of its frames."""

    kind: int
    snap: int = 0
    check: int = 0


@dataclass
class _Section:
    order: str
    links: list[_Link] = field(default_factory=list)


def is_capture(data: bytes) -> bool:
    """Whether the bytes start like a capture file, even one that can't be read here."""
    magic = data[:4]
    known = {*PCAP, *MODIFIED, SECTION}
    return bool(
        {int.from_bytes(magic, "little"), int.from_bytes(magic, "big")} & known
        or any(data.startswith(begin) for begin in COMPRESSED)
    )


def read_capture(data: bytes, name: str, layer: LinkLayer) -> Iterator[Captured]:
    """The packets of a capture file that fit a device with this link layer, in order.

    Raises InvalidInput, possibly after some packets, if the file is truncated or damaged, or its link type
    does not fit the device.
    """
    for begin, how in COMPRESSED.items():
        if data.startswith(begin):
            raise InvalidInput(f"{name} can't be read", f"it is compressed ({how})", "Unpack it first")
    if data[:4] == struct.pack("<I", SECTION):
        yield from _pcapng(data, name, layer)
        return
    for order in "<>":
        magic = struct.unpack_from(f"{order}I", data.ljust(4, b"\0"))[0]
        if magic in PCAP:
            yield from _pcap(data, order, name, layer)
            return
        if magic in MODIFIED:
            raise InvalidInput(
                f"{name} can't be read", "it is in an obsolete variant of pcap",
                f"Convert it: editcap -F pcap {name} new.pcap",
            )  # fmt: skip
    raise InvalidInput(f"{name} is not a capture", "it starts like neither pcap nor pcapng")


def _pcap(data: bytes, order: str, name: str, layer: LinkLayer) -> Iterator[Captured]:
    if len(data) < 24:
        raise _cut_short(name, "in its header")
    link = struct.unpack_from(f"{order}I", data, 20)[0]
    # The upper bits say whether frames include their FCS, and its length in 16-bit words.
    check = (link >> 28) * 2 if link & 0x04000000 else 0
    kind = link & 0xFFFF
    if not _fits(kind, layer):
        raise _other(kind, name, layer)
    at, index = 24, 0
    while at < len(data):
        index += 1
        if at + 16 > len(data):
            raise _cut_short(name, f"in the header of packet {index}")
        kept, length = struct.unpack_from(f"{order}II", data, at + 8)
        if kept > LARGEST:
            raise _damaged(name, f"packet {index} claims to have {kept} bytes")
        at += 16
        if at + kept > len(data):
            raise _cut_short(name, f"in packet {index}")
        yield from _captured(data[at : at + kept], length, check, kind, layer)
        at += kept


def _pcapng(data: bytes, name: str, layer: LinkLayer) -> Iterator[Captured]:
    section = _Section("<")
    at, index, others = 0, 0, set()
    packets = 0
    while at < len(data):
        index += 1
        if at + 12 > len(data):
            raise _cut_short(name, f"in block {index}")
        if data[at : at + 4] == struct.pack("<I", SECTION):  # reads the same in both orders
            section = _Section(_order(data, at, name))
        kind, length = struct.unpack_from(f"{section.order}II", data, at)
        if length < 12 or length % 4 or length > LARGEST:
            raise _damaged(name, f"block {index} claims to have {length} bytes")
        if at + length > len(data):
            raise _cut_short(name, f"in block {index}")
        if struct.unpack_from(f"{section.order}I", data, at + length - 4)[0] != length:
            raise _damaged(name, f"block {index} has different lengths at its start and end")
        body = data[at + 8 : at + length - 4]
        at += length
        if kind == INTERFACE:
            section.links.append(_interface(body, section.order, name, index))
        elif kind in (OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET):
            link, kept, wire = _block_packet(kind, body, section, name, index)
            if not _fits(link.kind, layer):
                others.add(link.kind)
                continue
            packets += 1
            yield from _captured(kept, wire, link.check, link.kind, layer)
    if others and not packets:
        raise _other(min(others), name, layer)


def _order(data: bytes, at: int, name: str) -> str:
    for order in "<>":
        if struct.unpack_from(f"{order}I", data, at + 8)[0] == BYTE_ORDER:
            return order
    raise _damaged(name, "a section has no byte order")


def _interface(body: bytes, order: str, name: str, number: int) -> _Link:
    if len(body) < 8:
        raise _damaged(name, f"block {number} is too short for an interface")
    kind, _, snap = struct.unpack_from(f"{order}HHI", body)
    link = _Link(kind, snap)
    at = 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(f"{order}HH", body, at)
        if code == 0 or at + 4 + length > len(body):
            break
        if code == IF_FCSLEN and length == 1:
            link.check = body[at + 4]
        at += 4 + (length + 3 & ~3)
    return link


def _block_packet(
    kind: int, body: bytes, section: _Section, name: str, number: int
) -> tuple[_Link, bytes, int]:
    """A packet's interface, its captured bytes, and its length on the wire."""
    if len(body) < (4 if kind == SIMPLE_PACKET else 20):
        raise _damaged(name, f"block {number} is too short for a packet")
    order = section.order
    if kind == SIMPLE_PACKET:
        index, at = 0, 4
        length = struct.unpack_from(f"{order}I", body)[0]
    else:
        index = struct.unpack_from(f"{order}I" if kind == ENHANCED_PACKET else f"{order}H", body)[0]
        kept, length = struct.unpack_from(f"{order}II", body, 12)
        at = 20
    if index >= len(section.links):
        raise _damaged(name, f"block {number} refers to interface {index}, which is not described")
    link = section.links[index]
    if kind == SIMPLE_PACKET:
        kept = min(length, link.snap or length)
    if at + kept > len(body):
        raise _damaged(name, f"the packet of block {number} is longer than the block")
    return link, body[at : at + kept], length


def _captured(kept: bytes, length: int, check: int, kind: int, layer: LinkLayer) -> Iterator[Captured]:
    """The packet without FCS, as the device would deliver it."""
    length = max(max(length, len(kept)) - check, 0)
    kept = kept[:length]
    if layer.start is Start.IP:
        skip = TO_IP[kind]
        kept, length = kept[skip:], max(length - skip, 0)
        if not kept or kept[0] >> 4 not in (4, 6):
            return  # of `-i any`: ARP and the like
    yield Captured(kept, length)


def _fits(kind: int, layer: LinkLayer) -> bool:
    """Whether packets of this link type can be tried on a device with this link layer."""
    return kind in TO_IP if layer.start is Start.IP else kind == layer.link_type


def _other(kind: int, name: str, layer: LinkLayer) -> InvalidInput:
    what = LINK_TYPES.get(kind, f"number {kind}")
    if layer.start is Start.ETHERNET:
        return InvalidInput(
            f"{name} can't be tried",
            f"its packets are not Ethernet frames (link type {what})",
            "Capture on one Ethernet interface: tcpdump -i IF -w FILE",
        )
    return InvalidInput(
        f"{name} can't be tried",
        f"packets on this interface are {layer.name}, those in the file have another link type ({what})",
        "Capture on the interface itself: tcpdump -i IF -w FILE",
    )


def _cut_short(name: str, where: str) -> InvalidInput:
    return InvalidInput(
        f"{name} can't be read", f"it ends {where}", "Stop the capture that writes it, or copy it again"
    )


def _damaged(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"{name} can't be read", f"it is damaged: {why}", "Copy or capture it again")
