# SPDX-License-Identifier: Apache-2.0
"""The time a chain takes, as a table and as a document. Pure."""

from __future__ import annotations

from typing import Any

from xdpchain.model.actions import Action
from xdpchain.model.interface import Interface
from xdptui.words.printable import printable
from xdptui.words.time_words import Times, time_lines

__all__ = ["time_document", "time_table"]


def time_table(interface: Interface, found: Times, width: int) -> str:
    """The whole chain, each slot, each packet."""
    lines = ("".join(text for text, _ in parts).rstrip() for parts in time_lines(found, width))
    return "\n".join((printable(str(interface)), *lines))


def time_document(interface: Interface, found: Times) -> dict[str, Any]:
    """A line of JSON; times in ns."""
    run, times = found.run, found.slots
    return {
        "name": interface.name,
        "ifindex": interface.ifindex,
        "netns": interface.netns,
        "seconds": round(run.seconds, 6),
        "packets": run.runs,
        "ns": run.ns,
        "rate": round(run.rate, 3),
        "mean_ns": None if run.mean_ns is None else round(run.mean_ns, 1),
        "cpu_share": round(run.share, 6),
        "cost": {"extra_ns": found.cost.extra_ns, "clock_ns": found.cost.clock_ns},
        "slots": None
        if times is None
        else [
            {"slot": i, "name": name, "ns": times.of_slot(i), "reached": times.reached(i)}
            for i, name in enumerate(times.names)
        ],
        "frames": None
        if times is None
        else [
            {
                "name": frame.name,
                "ns": frame.ns,
                "slots": list(frame.slots),
                "verdict": frame.verdict.xdp_name if isinstance(frame.verdict, Action) else frame.verdict,
                "steady": frame.steady,
            }
            for frame in times.frames
        ],
        "why": found.why,
    }
