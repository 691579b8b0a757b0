# SPDX-License-Identifier: Apache-2.0
"""Followed packets as text and as JSON. Pure."""

from __future__ import annotations

import textwrap
from typing import Any

from xdpchain.follow.followed import Fate, Followed, Step
from xdpchain.follow.pcapng import after, code_name
from xdpchain.trial.packets.describe import describe
from xdptui.words.follow_words import CHANGED, change_lines, duration
from xdptui.words.path_words import Paths, arrivals, path_document, path_lines
from xdptui.words.printable import printable
from xdptui.words.site_words import site_document, site_words

__all__ = ["packet_document", "packet_text", "step_text", "what"]

WIDTH = 80
UNBROKEN = "\N{NO-BREAK SPACE}"


def what(packet: Followed) -> str:
    """``ICMP echo request from 192.0.2.1, 98 B, queue 0``: a packet as it arrived."""
    what = printable(describe(packet.entry.head, packet.layer))
    return f"{what}, {packet.entry.length} B, queue {packet.queue}"


def packet_text(packet: Followed, width: int = WIDTH, paths: Paths | None = None) -> str:
    """A line with the packet and its path (two lines if they don't fit); below it, for each slot, the line
    that decided, what the slot changed, and the path through it.
    """
    head = f"{packet.number:>3} {what(packet)}"
    steps = " → ".join(step_text(step).replace(" ", UNBROKEN) for step in packet.steps) or "no slot"
    way = f"{steps} = {code_name(packet.verdict)}"
    lines = [f"{head}  {way}"]
    if len(lines[0]) > width:
        lines = textwrap.wrap(head, width, subsequent_indent="    ")
        lines += textwrap.wrap(way, width, initial_indent="    ", subsequent_indent="      ")
    for step in packet.steps:
        texts = [f"{CHANGED} {printable(step.name)}: {text}" for text in change_lines(step)]
        if step.site is not None:
            texts.insert(0, f"{printable(step.name)} {code_name(step.code)}: {site_words(step.site)}")
        for text in texts:
            lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="        ")
    for slot, (step, view) in enumerate(arrivals(packet) if paths else ()):
        if paths and slot in paths:
            first, *rest = path_lines(step, view, paths[slot])
            lines += textwrap.wrap(first, width, initial_indent="      ", subsequent_indent="        ")
            lines += [f"        {line}" for line in rest]
    for text in after(packet):
        lines += textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="        ")
    return "\n".join(lines).replace(UNBROKEN, " ")


def step_text(step: Step) -> str:
    """``firewall PASS ✂ 120 ns``."""
    changed = f" {CHANGED}" if step.changes or step.resized else ""
    return f"{printable(step.name)} {code_name(step.code)}{changed} {duration(step.ns)}"


def _fate_document(fate: Fate) -> dict[str, Any]:
    known = "dropped" if fate.reason else "freed" if fate.without_drop else "unknown"
    return {"fate": known, "reason": fate.reason or None, "function": fate.function or None}


def packet_document(packet: Followed, paths: Paths | None = None) -> dict[str, Any]:
    """A line of ``follow --json``."""
    return {
        "packet": packet.number,
        "at": packet.time / 1e9,
        "ifindex": packet.ifindex,
        "cpu": packet.cpu,
        "queue": packet.queue,
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
                "site": site_document(step.site) if step.site is not None else None,
                **({"path": path_document(step, paths[slot])} if paths and slot in paths else {}),
                "length": step.view.length,
                "moved": step.moved,
                "changes": [
                    {
                        "at": change.at,
                        "before": change.before.hex(),
                        "at_after": change.at_after,
                        "after": change.after.hex(),
                    }
                    for change in step.changes
                ],
            }
            for slot, step in enumerate(packet.steps)
        ],
        "verdict": packet.verdict,
        "verdict_action": code_name(packet.verdict),
        "ns": packet.ns,
        "clock_ns": packet.clock_ns,
        **({} if packet.fate is None else {"after": _fate_document(packet.fate)}),
    }
