# SPDX-License-Identifier: Apache-2.0
"""A plan and its outcome as plain text. Pure."""

from __future__ import annotations

from xdpchain.change.plan import Plan
from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdptui.words.plan_words import grouped
from xdptui.words.printable import printable

__all__ = ["outcome_text", "plan_text", "running_text"]


def plan_text(plan: Plan) -> str:
    """The changes as a diff, then the steps; excludes the warnings."""
    where = printable(str(plan.running.interface))
    if plan.empty:
        return f"{where}: nothing to change"
    steps = "\n".join(f"  {i}. {step}" for i, step in enumerate(plan.steps, 1))
    return f"{where}: {_kind(plan.candidate)}\n{changes_text(plan)}\nsteps:\n{steps}"


def changes_text(plan: Plan) -> str:
    """One line per change."""
    changes = grouped(plan.changes)
    width = max((len(change.name) for change in changes), default=0)
    return "\n".join(
        f"  {change.symbol} {printable(change.name).ljust(width)}  {change.text}" for change in changes
    )


def outcome_text(plan: Plan, now: Running) -> str:
    """What was changed, and what runs now."""
    where = printable(str(now.interface))
    if plan.empty:
        return f"{where}: nothing to change"
    return f"{changes_text(plan)}\n{where}: {running_text(now)}"


def running_text(now: Running) -> str:
    """What runs, in brief."""
    if now.chain is None or now.dispatcher is None:
        hook = now.hook
        return f"program {hook.prog_id} ({printable(hook.name)}) runs" if hook else "no XDP program runs"
    slots = len(now.chain)
    runs = f"{slots} slot{'s run' if slots != 1 else ' runs'} behind dispatcher {now.dispatcher.id}"
    return f"{runs} ({_kind(now.chain)})"


def _kind(chain: Chain) -> str:
    switch = f", counters {'on' if chain.counters else 'off'}"
    counters = switch if chain.linkage.facts.counts_chain else ""
    return f"{chain.linkage} linkage, {chain.mode} mode{counters}"
