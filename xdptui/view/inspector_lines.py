# SPDX-License-Identifier: Apache-2.0
"""More about the slot under the cursor, and what in the chain may be unintended. Pure."""

from __future__ import annotations

from textwrap import wrap

from xdpchain.change.lint import lint
from xdpchain.model.chain import Chain
from xdpchain.model.labels import labels_text
from xdpchain.model.paths import route_texts
from xdpchain.model.policy import Policy
from xdpchain.model.running import Running
from xdpchain.model.shadow import would_have
from xdpchain.model.slot import Slot
from xdptui.view.cells import Cell, Line, left
from xdptui.words.numbers import share
from xdptui.words.rates import Reading
from xdptui.words.shadow_words import shadow_line

__all__ = ["inspector_lines"]

LABEL = 12


def inspector_lines(
    chain: Chain,
    slot: Slot | None,
    was: Slot | None,
    width: int,
    running: Running | None = None,
    reading: Reading | None = None,
) -> list[Line]:
    """The chain's warnings, then the slot's facts, one line each; ``was`` is the running slot, ``running``
    what the chain is to replace.
    """
    if slot is None:
        return []
    lines: list[Line] = []
    for warning in lint(chain, running):
        where = "" if warning.slot is None else f"slot {warning.slot}: "
        lines += _wrapped(Cell(" ! ", "warn"), where + warning.text, width, "warn")
    component = slot.component
    declared = component.declared
    source = component.object
    facts = [("off", "does not run; its place, maps and counts are kept")] if slot.off else []
    if slot.shadow:
        facts.append(("shadow", _shadow(slot, was, reading)))
    facts += [
        ("object", (source.path or "from the kernel") if source else "not kept by its loader"),
        ("run config", f"priority {slot.priority}, continues on {slot.actions}"),
    ]
    if slot.labels:
        facts.append(("labels", labels_text(slot.labels)))
    if slot.routes:
        facts.append(("routes", ", ".join(route_texts(chain, slot))))
    if slot.policy:
        facts.append(("policy", _policy(slot, slot.policy, reading)))
    if was is not None and was.config != slot.config:
        facts.append(("runs with", f"priority {was.priority}, continues on {was.actions}"))
    if declared != slot.config:
        facts.append(("declared", f"priority {declared.priority}, continues on {declared.actions}"))
    loaded = f"id {component.id}, tag {component.tag}" if component.id is not None else "not loaded yet"
    size = f", {component.instructions} instructions" if component.instructions else ""
    facts.append(("program", f"{loaded}{size}, section {component.section or '?'}, {component.licence}"))
    if component.bound:
        facts.append(("device", "it reads RX metadata, so the chain is bound to the interface"))
    if component.maps:
        facts.append(("maps", ", ".join(f"{ref.name} ({ref.id})" for ref in component.maps)))
    for name, text in facts:
        lines += _wrapped(left(f" {name}", LABEL, "label"), text, width, "plain")
    return lines


def _wrapped(label: Cell, text: str, width: int, style: str) -> list[Line]:
    """A text beside its label, on as many lines as it takes: guidance is never truncated."""
    size = len(label.text)
    clean = "".join(c if c.isprintable() else "?" for c in text)
    rows = wrap(clean, max(8, width - size), break_on_hyphens=False) or [""]
    blank = Cell(" " * size, label.style)
    return [Line((label if i == 0 else blank, left(row, width - size, style))) for i, row in enumerate(rows)]


def _policy(slot: Slot, policy: Policy, reading: Reading | None) -> str:
    totals = reading.totals.get(slot.key) if reading else None
    broken = policy.breaches(totals.packets) if totals else 0
    return f"{policy}" + (f"; {broken:,.0f} times so far" if broken else "")


def _shadow(slot: Slot, was: Slot | None, reading: Reading | None) -> str:
    """What it would have done: in total, and now."""
    if was is None or not was.shadow:
        return "once applied, it runs and counts, but the chain continues whatever it returns"
    totals = reading.totals.get(slot.key) if reading else None
    if reading is None or totals is None:
        return "the chain continues whatever it returns; it is not counted"
    text = shadow_line(would_have(slot, totals.packets))
    rates = reading.rates.get(slot.key)
    if rates is not None and rates.all_packets:
        text += f"; now {share(would_have(slot, rates.packets).dropped, rates.all_packets)}"
    return text
