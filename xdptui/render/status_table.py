# SPDX-License-Identifier: Apache-2.0
"""Interfaces and their chains as a plain table. Pure.

A slot's row begins with ``=>``, then priority, name, program id, tag and chain call actions, one word each,
so that scripts that parse xdp-loader's table can parse this one. A slot's counts are on a line of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.chain import Chain
from xdpchain.model.labels import labels_text
from xdpchain.model.paths import route_texts
from xdpchain.model.running import Running
from xdpchain.model.shadow import would_have
from xdpchain.model.slot import Slot
from xdptui.render.quantities import octets
from xdptui.words.advice import worded
from xdptui.words.behind_words import behind_lines
from xdptui.words.owners import whose
from xdptui.words.printable import printable
from xdptui.words.shadow_words import shadow_line

if TYPE_CHECKING:
    from xdpchain.observe.behind import Behind
    from xdpchain.observe.counters import Sample, SlotCounts

__all__ = ["counted", "status_table"]

Row = tuple[str, str, str, str, str, str, str]

HEAD: Row = ("Interface", "Prio", "Program", "Mode", "ID", "Tag", "Chain call actions")
LEAST = (9, 4, 14, 7, 6, 16, 0)
"""Widths of the columns, if nothing needs more: 80 in all."""


def status_table(
    entries: Sequence[tuple[Running, Sample | None]],
    now: float = 0.0,
    behind: Mapping[int, Sequence[Behind]] = {},
    *,
    verbose: bool = False,
) -> str:
    """The table, without a final newline. ``Sample`` None: no counters there. ``now`` is in seconds of
    CLOCK_BOOTTIME, ``behind`` lists by ifindex what is attached behind the programs; ``verbose`` adds why
    their verdicts are not counted.
    """
    rows: list[Row | str] = [HEAD]
    for running, sample in entries:
        rows += _interface(running, sample, now)
        found = behind.get(running.interface.ifindex, ())
        reasons = [[f"  not counted: {one.uncounted}"] if verbose else [] for one in found]
        rows += (f"    {line}" for line in behind_lines(found, reasons.__getitem__))
    widths = [
        max(least, *(len(row[i]) for row in rows if not isinstance(row, str)))
        for i, least in enumerate(LEAST)
    ]
    return "\n".join(row if isinstance(row, str) else _line(row, widths) for row in rows)


def _line(row: Row, widths: Sequence[int]) -> str:
    return " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _interface(running: Running, sample: Sample | None, now: float) -> list[Row | str]:
    name = printable(running.interface.name)
    if not running.hooks:
        return [(name, "", "no XDP program", "", "", "", ""), *_waiting(running, now)]
    rows: list[Row | str] = []
    for i, hook in enumerate(running.hooks):
        shown = name if i == 0 else ""
        tag = hook.tag or "-"
        rows.append((shown, "", printable(hook.name) or "-", hook.mode.value, str(hook.prog_id), tag, ""))
    if said := _whose(running):
        rows.append(f"    {said}")
    if running.note:
        rows.append(f"    {printable(running.note)}")
        if todo := worded(running.todo, running.interface.netns):
            rows.append(f"      {printable(todo)}")
    if running.form_reason:
        rows.append(f"    {printable(running.form_reason)}")
    rows += _waiting(running, now)
    chain = running.chain or running.shown or Chain()
    for slot in chain:
        rows.append(_slot(slot))
        if slot.labels:
            rows.append(f"      labels: {labels_text(slot.labels)}")
        if slot.routes:
            rows.append(f"      routes: {', '.join(map(printable, route_texts(chain, slot)))}")
        if slot.policy:
            rows.append(f"      {slot.policy}")
        if sample is None:
            continue
        if slot.key in sample.slots:
            rows.append(f"      {counted(sample.slots[slot.key])}")
            if slot.shadow and sample.slots[slot.key].total_packets:
                rows.append(f"      {shadow_line(would_have(slot, sample.slots[slot.key].packets))}")
            if slot.policy and (forbidden := slot.policy.breaches(sample.slots[slot.key].packets)):
                rows.append(f"      {forbidden:,.0f} times it returned a forbidden code")
        else:
            rows.append(f"      {_uncounted(sample)}")
    if sample is not None:
        rows.append(f"    verdict: {counted(sample.verdict) if sample.verdict else _uncounted(sample)}")
    return rows


def _uncounted(sample: Sample) -> str:
    return f"not counted: {printable(sample.why)}" if sample.why else "not counted until somebody looks"


def _waiting(running: Running, now: float) -> list[str]:
    """A pending change, or the outcome of one; and who follows packets."""
    if not (running.following or running.pending or running.settled):
        return []
    from xdpchain.model.pending_change import Outcome
    from xdptui.render.following_text import following_line
    from xdptui.render.pending_text import pending_line, settled_line

    lines = []
    if running.following is not None:
        lines.append(f"    {following_line(running.following, running)}")
    if running.pending is not None:
        lines.append(f"    {pending_line(running.pending, running, now)}")
    if running.settled is not None and running.settled.outcome is not Outcome.CONFIRMED:
        lines.append(f"    {settled_line(running.settled)}")
    return lines


def _whose(running: Running) -> str:
    words = [whose(running.owner)] if running.owner else []
    if running.linkage:
        words.append(f"{running.linkage} linkage" + f" ({running.form})" * bool(running.form))
    if running.dispatcher and not running.linkage_facts.through_arrays:  # there, slot 0's program is it
        words.append(f"dispatcher v{running.dispatcher.version}")
    if running.dispatcher and running.dispatcher.bound:
        words.append("bound to this interface")
    return ", ".join(words)


def _slot(slot: Slot) -> Row:
    number = "-" if slot.id is None else str(slot.id)
    name = printable(slot.name)
    actions = f"{slot.actions} (in shadow: continues after any)" if slot.shadow else str(slot.actions)
    if slot.off:
        actions = f"{slot.actions} (off: does not run)"
    return (" =>", str(slot.priority), name, "", number, slot.component.tag or "-", actions)


def counted(counts: SlotCounts) -> str:
    """``3 packets: 2 XDP_PASS (168 B), 1 XDP_DROP (84 B)``."""
    total = counts.total_packets
    if not total:
        return "no packets yet"
    names = [*(action.xdp_name for action in ALL_ACTIONS), "other codes"]
    parts = sorted(zip(counts.packets, names, counts.bytes, strict=True), key=lambda part: -part[0])
    listed = ", ".join(f"{packets:,} {name} ({octets(size)})" for packets, name, size in parts if packets)
    return f"{total:,} packet{'s' * (total != 1)}: {listed}"
