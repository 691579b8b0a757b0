# SPDX-License-Identifier: Apache-2.0
"""More of the slot under the cursor, and what the chain does that its author may not mean. Pure."""

from __future__ import annotations

from xdpchain.chain import Chain, Slot
from xdpchain.lint import lint
from xdpchain.paths import route_texts

from .cells import Cell, Line, clip, left

__all__ = ["inspector_lines"]

LABEL = 12


def inspector_lines(chain: Chain, slot: Slot | None, was: Slot | None, width: int) -> list[Line]:
    """The slot's facts, a line each, and the chain's warnings first; ``was`` is the slot as it runs."""
    lines = [
        Line((Cell(" ! ", "warn"), left(warning.text, width - 3, "warn")))
        for warning in lint(chain)
        if slot is not None
    ]
    if slot is None:
        return lines
    component = slot.component
    declared = component.declared
    source = component.object
    facts = [
        ("object", (source.path or "from the kernel") if source else "not kept by its loader"),
        ("run config", f"priority {slot.priority}, continues on {slot.actions}"),
    ]
    if slot.routes:
        facts.append(("routes", ", ".join(route_texts(chain, slot))))
    if was is not None and was.config != slot.config:
        facts.append(("runs with", f"priority {was.priority}, continues on {was.actions}"))
    if declared != slot.config:
        facts.append(("declared", f"priority {declared.priority}, continues on {declared.actions}"))
    loaded = f"id {component.id}, tag {component.tag}" if component.id is not None else "not loaded yet"
    size = f", {component.instructions} instructions" if component.instructions else ""
    facts.append(("program", f"{loaded}{size}, section {component.section or '?'}, {component.licence}"))
    if component.maps:
        facts.append(("maps", ", ".join(f"{ref.name} ({ref.id})" for ref in component.maps)))
    return lines + [
        Line((left(f" {name}", LABEL, "label"), left(clip(text, width - LABEL), width - LABEL, "plain")))
        for name, text in facts
    ]
