# SPDX-License-Identifier: Apache-2.0
"""The format of netlink messages and their attributes (linux/netlink.h). Pure."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Collection, Iterator

__all__ = [
    "ACK",
    "DONE",
    "DUMP",
    "ERROR",
    "HEADER",
    "REQUEST",
    "ack_text",
    "attribute",
    "attributes",
    "chosen",
    "ip_text",
    "messages",
    "native",
    "request",
    "text",
]

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port id
ERROR, DONE = 2, 3
"""Message types: an ack (or a refusal), and the end of a dump."""

ACK, DUMP = 0x4, 0x300
"""How a request is answered: by an ack, or by a list; with neither by one reply."""

REQUEST = 0x1
_CAPPED, _ACK_TLVS = 0x100, 0x200  # of an ack: without the request's body, with attributes
_NESTED = 0x8000
_KIND = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_ATTRIBUTE = struct.Struct("=HH")
_ACK_MESSAGE = 1  # NLMSGERR_ATTR_MSG


def request(kind: int, flags: int, body: bytes = b"") -> bytes:
    """A message to the kernel; the transport assigns its sequence number."""
    return HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, 0, 0) + body


def attribute(kind: int, value: bytes | int | str, *, nested: bool = False) -> bytes:
    """One attribute; an int becomes a 32-bit number, text is zero-terminated."""
    if isinstance(value, int):
        value = struct.pack("=i" if value < 0 else "=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    head = _ATTRIBUTE.pack(4 + len(value), kind | (_NESTED if nested else 0))
    return head + value + bytes(-len(value) & 3)


def attributes(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message, or of a nested attribute, starting at ``at``: (number, value)."""
    end = len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not 4 <= length <= end - at:
            return
        yield kind & _KIND, data[at + 4 : at + length]
        at += (length + 3) & ~3


def chosen(data: bytes, at: int, wanted: Collection[int]) -> dict[int, bytes]:
    """The `attributes` with these numbers, in half the time: it is called a thousand times a second."""
    found: dict[int, bytes] = {}
    unpack, end, count = _ATTRIBUTE.unpack_from, len(data), len(wanted)
    while at + 4 <= end and len(found) < count:
        length, kind = unpack(data, at)
        if not 4 <= length <= end - at:
            break
        if kind & _KIND in wanted:
            found[kind & _KIND] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split the result of one recv: (type, flags, sequence number, message with header)."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if not HEADER.size <= length <= len(data) - offset:
            return
        yield kind, flags, sequence, data[offset : offset + length]
        offset += (length + 3) & ~3


def ack_text(message: bytes) -> str:
    """The text in an ack, or at the end of a dump; empty if there is none (kernel 4.12 and later send it)."""
    _, kind, flags, _, _ = HEADER.unpack_from(message)
    at = HEADER.size + 4
    if not flags & _ACK_TLVS:
        return ""
    if kind == ERROR:  # preceded by the request that it answers, or only its header
        asked = int(struct.unpack_from("=I", message, at)[0])
        at += HEADER.size if flags & _CAPPED else (asked + 3) & ~3
    return text(dict(attributes(message, at)).get(_ACK_MESSAGE))


def native(value: bytes | None, default: int = 0) -> int:
    """A number in this machine's byte order, of any width."""
    return int.from_bytes(value, sys.byteorder) if value else default


def text(value: bytes | None) -> str:
    """Zero-terminated text. Bytes that are not UTF-8 are escaped."""
    return value.split(b"\0", 1)[0].decode(errors="backslashreplace") if value else ""


def ip_text(value: bytes | None) -> str | None:
    """An IP address, by its length; None for anything else."""
    if value is None or len(value) not in (4, 16):
        return None
    return socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)
