# SPDX-License-Identifier: Apache-2.0
"""A slot's details as rows of name and text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.model.labels import labels_text
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.slot import Slot

if TYPE_CHECKING:
    from xdpchain.observe.details import Details

__all__ = ["maps_table", "overview"]

UNKNOWN = "not known"


def overview(details: Details, slot: Slot, was: Slot | None) -> list[tuple[str, str]]:
    """Everything but maps and code; a row without text is a heading. ``was`` is the running slot."""
    rows = [
        ("Program", ""),
        ("  name", details.name),
        ("  id", _id(details)),
        ("  tag", details.tag or UNKNOWN),
        ("  section", details.section or UNKNOWN),
        ("  licence", details.licence or "none stated"),
        (
            "  object",
            details.path or ("from the kernel only" if details.sha256 else "not kept by its loader"),
        ),
        ("  sha256", details.sha256 or UNKNOWN),
        ("Run config", ""),
        ("  declared", _config(details.declared)),
    ]
    if slot.component.globals:
        given = ", ".join(f"{variable.name} = {variable.text}" for variable in slot.component.globals)
        rows.append(("  globals given", given))
    if slot.component.map_entries:
        sizes = ", ".join(f"{name} {entries}" for name, entries in slot.component.map_entries)
        rows.append(("  map entries", sizes))
    if slot.component.shares:
        rows.append(("  others' maps", ", ".join(share.name for share in slot.component.shares)))
    if slot.component.bound:
        rows.append(("  device", "it reads RX metadata, so its chain is bound to the interface"))
    if slot.labels:
        rows.append(("  labels", labels_text(slot.labels)))
    if slot.off:
        rows.append(("  off", "does not run; its place, maps and counts are kept"))
    if slot.shadow:
        rows.append(("  shadow", "runs and is counted; the chain continues whatever it returns"))
    if was is not None:
        rows.append(("  runs with", _config(was.config) + _override(was.config, details.declared)))
    if was is None or was.config != slot.config:
        rows.append(("  candidate", _config(slot.config) + _override(slot.config, details.declared)))
    stack = "+".join(str(depth) for depth in details.stack) if details.stack else None
    if details.form:
        reason = f" ({details.form_reason})" if details.form_reason else ""
        rows.append(("  linked", f"{details.form}{reason}"))
    rows += [
        ("Verifier", ""),
        ("  instructions", _number(details.instructions)),
        ("  walked", _number(details.verified, " instructions by the verifier")),
        ("  stack", f"{stack} B (main function, then those it calls)" if stack else UNKNOWN),
        ("  native code", _number(details.jited, " B")),
    ]
    return rows


def _id(details: Details) -> str:
    if details.id is None:
        return "not loaded yet"
    if details.program is not None and details.program != details.id:
        how = "runs as program" if details.alone else "linked into dispatcher"
        return f"{details.id}, {how} {details.program}"
    return str(details.id)


def _config(config: RunConfig) -> str:
    return f"priority {config.priority}, continues on {config.actions}"


def _override(config: RunConfig, declared: RunConfig) -> str:
    return "" if config == declared else "  (overridden)"


def _number(value: int | None, unit: str = "") -> str:
    return UNKNOWN if value is None else f"{value:,}{unit}".replace(",", "\u2009")


def maps_table(details: Details) -> list[str]:
    """The maps as table lines."""
    if not details.maps:
        return ["It uses no maps." if details.id is not None else "Not loaded yet: its maps have no ids."]
    width = max(4, *(len(m.name) for m in details.maps))
    kind = max(4, *(len(m.type) for m in details.maps))
    lines = [
        f"{'name':<{width}}  {'type':<{kind}}  {'id':>6}  {'key B':>6}  {'value B':>8}  {'entries':>9}  flags"
    ]
    lines += [
        f"{m.name:<{width}}  {m.type:<{kind}}  {m.id:>6}  {m.key_size:>6}  {m.value_size:>8}  "
        f"{m.max_entries:>9}  {m.flags:#x}"
        for m in details.maps
    ]
    return lines
