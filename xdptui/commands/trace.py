# SPDX-License-Identifier: Apache-2.0
"""``xdptui trace on|off IF``: count what has no counters of its own, even when nothing is watching."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.observe.discover import look
from xdpchain.observe.trace import CountingCost, counting_cost, trace_off, trace_on
from xdptui.outcome import write

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Pin counters for what runs there, or remove them."""
    running = look(options.interface, options.netns)
    if options.switch == "off":
        were = trace_off(running)
        _say(options, {"traced": False, "changed": were}, "no longer counted" if were else "was not traced")
        return 0
    programs = trace_on(running)
    cost = counting_cost(running)
    document = {
        "traced": True,
        "programs": programs,
        "cost_ns": {"plain": cost.plain_ns, "counted": cost.counted_ns} if cost else None,
    }
    _say(options, document, f"counted from now on ({len(programs)} programs traced){_price(cost)}")
    return 0


def _price(cost: CountingCost | None) -> str:
    if cost is None:
        return ""
    return f", which costs about {cost.extra_ns} ns per packet here, as measured"


def _say(options: Namespace, document: dict[str, object], words: str) -> None:
    if options.json:
        write(json.dumps({"interface": options.interface, **document}, indent=2))
    else:
        write(f"{options.interface}: {words}")
