# SPDX-License-Identifier: Apache-2.0
"""Followed packets as text and as JSON. Pure."""

from __future__ import annotations

import textwrap
from typing import Any

from xdpchain.follow.followed import Change, Followed, Step
from xdpchain.follow.pcapng import code_name
from xdpchain.trial.packets.describe import describe
from xdptui.outcome import printable

__all__ = ["CHANGED", "change_lines", "change_text", "packet_document", "packet_text", "step_text", "what"]

CHANGED = "✂"
WIDTH = 80
MOST_BYTES = 8
"""Bytes of a change that are shown; JSON and the file have all."""
UNBROKEN = "\N{NO-BREAK SPACE}"
MOST_CHANGES = 4
"""Changes of one slot that are shown."""


def what(packet: Followed) -> str:
    """``ICMP echo request from 192.0.2.1, 98 B``: a packet as it came in."""
    return f"{printable(describe(packet.entry.head, packet.layer))}, {packet.entry.length} B"


def packet_text(packet: Followed, width: int = WIDTH) -> str:
    """A line with the packet and its way (below one another where they don't fit), and its changes below."""
    head = f"{packet.number:>3} {what(packet)}"
    steps = " → ".join(step_text(step).replace(" ", UNBROKEN) for step in packet.steps) or "no slot"
    way = f"{steps} = {code_name(packet.verdict)}"
    lines = [f"{head}  {way}"]
    if len(lines[0]) > width:
        lines = textwrap.wrap(head, width, subsequent_indent="    ")
        lines += textwrap.wrap(way, width, initial_indent="    ", subsequent_indent="      ")
    for step in packet.steps:
        for text in change_lines(step):
            lines += textwrap.wrap(
                f"{CHANGED} {printable(step.name)}: {text}",
                width, initial_indent="      ", subsequent_indent="        ",
            )  # fmt: skip
    return "\n".join(lines).replace(UNBROKEN, " ")


def step_text(step: Step) -> str:
    """``firewall PASS ✂ 120 ns``."""
    changed = f" {CHANGED}" if step.changes or step.resized else ""
    return f"{printable(step.name)} {code_name(step.code)}{changed} {duration(step.ns)}"


def duration(ns: int) -> str:
    """``120 ns``, ``3.4 µs``, ``12.0 ms``."""
    if ns < 10_000:
        return f"{ns} ns"
    if ns < 10_000_000:
        return f"{ns / 1e3:.1f} µs"
    return f"{ns / 1e6:.1f} ms"


def change_lines(step: Step) -> list[str]:
    """What a slot changed, a line a change; the first ones, where there are many."""
    lines = [change_text(one) for one in step.changes[:MOST_CHANGES]]
    if len(step.changes) > MOST_CHANGES:
        lines.append(f"and {len(step.changes) - MOST_CHANGES} more places")
    shown = sum(len(one.after) - len(one.before) for one in step.changes)
    if step.resized != shown:  # beyond the bytes that were looked at
        lines.append(f"length {step.view.length - step.resized} B → {step.view.length} B")
    return lines


def change_text(one: Change) -> str:
    """``byte 22: 40 → 3f``, ``4 bytes added at 0: 02 00 00 01``."""
    if not one.before:
        return f"{_bytes(one.after)} added at {one.at_after}: {_hex(one.after)}"
    if not one.after:
        return f"{_bytes(one.before)} removed at {one.at}: {_hex(one.before)}"
    last = one.at_after + len(one.after) - 1
    where = f"byte {last}" if len(one.after) == 1 else f"bytes {one.at_after}-{last}"
    return f"{where}: {_hex(one.before)} → {_hex(one.after)}"


def _bytes(data: bytes) -> str:
    return "1 byte" if len(data) == 1 else f"{len(data)} bytes"


def _hex(data: bytes) -> str:
    return data[:MOST_BYTES].hex(" ") + " …" * (len(data) > MOST_BYTES)


def packet_document(packet: Followed) -> dict[str, Any]:
    """A line of ``follow --json``."""
    return {
        "packet": packet.number,
        "at": packet.time / 1e9,
        "ifindex": packet.ifindex,
        "cpu": packet.cpu,
        "what": describe(packet.entry.head, packet.layer),
        "length": packet.entry.length,
        "head": packet.entry.head.hex(),
        "slots": [
            {
                "name": step.name,
                "key": step.slot,
                "code": step.code,
                "action": code_name(step.code),
                "ns": step.ns,
                "length": step.view.length,
                "moved": step.moved,
                "changes": [
                    {
                        "at": one.at,
                        "before": one.before.hex(),
                        "at_after": one.at_after,
                        "after": one.after.hex(),
                    }
                    for one in step.changes
                ],
            }
            for step in packet.steps
        ],
        "verdict": packet.verdict,
        "verdict_action": code_name(packet.verdict),
        "ns": packet.ns,
        "clock_ns": packet.clock_ns,
    }
