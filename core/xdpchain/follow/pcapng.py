# SPDX-License-Identifier: Apache-2.0
"""Followed packets as a pcapng file (draft-ietf-opsawg-pcapng), for Wireshark and tshark. Pure.

The file's first interface is the network interface: each packet as it arrived, with its whole path as comment
and its verdict as verdict option. Each slot is another interface: packets that it changed, as they left it.
All records of a packet share its packet ID.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from xdpchain.bytecode.classic import HEAD
from xdpchain.model.actions import Action
from xdpchain.model.link_layer import LinkLayer

from .followed import WAIT, ByteChange, Followed, Step, View

__all__ = ["after", "code_name", "file_header", "packet_blocks", "way"]

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER = 0x1A2B3C4D
LENGTH_UNKNOWN = 0xFFFFFFFFFFFFFFFF
END, COMMENT = 0, 1
USER_APPLICATION = 4  # of the section
NAME, DESCRIPTION, RESOLUTION = 2, 3, 9  # of an interface
PACKET_ID, QUEUE, VERDICT = 5, 6, 7  # of a packet
NANOSECONDS = 9
VERDICT_OF_XDP = 2
MOST = 0xFFFF & ~3
"""Most bytes of an option's value."""

Option = tuple[int, bytes]


def file_header(interface: str, slots: Sequence[str], layer: LinkLayer, snaplen: int = HEAD) -> bytes:
    """The start of the file: the section, the interface, and one more interface per slot, by name."""
    fixed = struct.pack("=IHHQ", BYTE_ORDER, 1, 0, LENGTH_UNKNOWN)
    blocks = [_block(SECTION, fixed, [(USER_APPLICATION, b"xdptui")])]
    names = [(interface, "as it arrived")]
    names += [(f"{interface} after {name}", f"as slot {i} left it") for i, name in enumerate(slots)]
    for name, description in names:
        options = [
            (NAME, name.encode()),
            (DESCRIPTION, description.encode()),
            (RESOLUTION, bytes([NANOSECONDS])),
        ]
        blocks.append(_block(INTERFACE, struct.pack("=HHI", layer.link_type, 0, snaplen), options))
    return b"".join(blocks)


def packet_blocks(packet: Followed, slots: Sequence[str]) -> bytes:
    """One packet: as it arrived, and as it left each slot that changed it. ``slots`` are the keys of all
    slots, in order.
    """
    number = struct.pack("=Q", packet.number)
    verdict = bytes([VERDICT_OF_XDP]) + struct.pack("=Q", packet.verdict)
    queue = struct.pack("=I", packet.queue)
    options = [(COMMENT, way(packet).encode()), (PACKET_ID, number), (QUEUE, queue), (VERDICT, verdict)]
    blocks = [_packet(0, packet.time, packet.entry, options)]
    at = packet.time
    for step in packet.steps:
        at += step.ns
        if (step.changes or step.resized) and step.slot in slots:
            said = f"{step.name}: {'; '.join(_changed(step))}"
            options = [(COMMENT, said.encode()), (PACKET_ID, number)]
            blocks.append(_packet(slots.index(step.slot) + 1, at, step.view, options))
    return b"".join(blocks)


def way(packet: Followed) -> str:
    """A packet's path in one line: ``firewall PASS 120 ns -> monitor DROP changed 80 ns (monitor.c:12);
    verdict DROP``.
    """
    steps = [
        f"{step.name} {code_name(step.code)}{' changed' * bool(step.changes or step.resized)} {step.ns} ns"
        + (f" ({step.site.place})" if step.site is not None else "")
        for step in packet.steps
    ]
    verdict = f"verdict {code_name(packet.verdict)}"
    return "; ".join([" -> ".join(steps) or "no slot", verdict, *after(packet)])


def after(packet: Followed) -> Iterator[str]:
    """What happened to it after XDP_PASS, if requested."""
    fate = packet.fate
    if fate is None:
        return
    if fate.reason:
        yield f"after XDP: dropped, {fate.reason}" + f" (in {fate.function})" * bool(fate.function)
    elif fate.without_drop:
        yield "after XDP: freed without a drop"
    else:
        yield f"unknown after XDP (nothing seen within {WAIT:g} s)"


def code_name(code: int) -> str:
    """``PASS``, or ``code 77`` for a code that is no action."""
    if code in Action.__members__.values():
        return Action(code).name
    return f"code {code}"


def _changed(step: Step) -> Iterable[str]:
    yield from map(_change, step.changes)
    if step.resized and not any(len(change.before) != len(change.after) for change in step.changes):
        yield f"{step.resized:+d} bytes"


def _change(change: ByteChange) -> str:
    if not change.before:
        return f"added at {change.at_after}: {change.after.hex()}"
    if not change.after:
        return f"removed at {change.at}: {change.before.hex()}"
    return f"at {change.at_after}: {change.before.hex()} -> {change.after.hex()}"


def _packet(interface: int, at: int, view: View, options: Sequence[Option]) -> bytes:
    fixed = struct.pack(
        "=IIIII", interface, at >> 32, at & 0xFFFFFFFF, len(view.head), max(view.length, len(view.head))
    )
    return _block(PACKET, fixed + _padded(view.head), options)


def _block(kind: int, body: bytes, options: Sequence[Option]) -> bytes:
    packed = b"".join(
        struct.pack("=HH", code, len(value[:MOST])) + _padded(value[:MOST]) for code, value in options
    )
    whole = body + packed + struct.pack("=HH", END, 0)
    length = struct.pack("=I", len(whole) + 12)
    return struct.pack("=I", kind) + length + whole + length


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
