# SPDX-License-Identifier: Apache-2.0
"""Verdict sites as text and as JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdpchain.bytecode.sites import SourceLine, VerdictSite

__all__ = ["site_document", "site_words"]


def site_words(site: VerdictSite) -> str:
    """``firewall.bpf.c:47  if (blocked)  → 48  return XDP_DROP;``: the condition, and the branch taken, shown
    by the line it led to; without line information, the instruction.
    """
    line = site.line
    if line is None:
        return f"{site.function or 'the program'}, instruction {site.insn}"
    shown = f"{line.file}:{line.number}  {line.text}".rstrip()
    led = site.returns if site.returns not in (None, site.condition) else site.leads
    if site.condition is None or led is None:
        return shown
    place = f"{led.number}" if led.file == line.file else f"{led.file}:{led.number}"
    return f"{shown}  → {place}  {led.text.strip('{}')}".rstrip()


def site_document(site: VerdictSite) -> dict[str, Any]:
    """One site; without line information ``line`` is null and ``text`` names the instruction."""
    line = site.line
    return {
        "code": site.word,
        "function": site.function,
        "file": line.file if line else None,
        "line": line.number if line else None,
        "text": line.text if line else f"instruction {site.insn}",
        "condition": site.condition is not None or (line is None and bool(site.edges)),
        "return": _line_document(site.returns),
        "leads": _line_document(site.leads),
    }


def _line_document(line: SourceLine | None) -> dict[str, Any] | None:
    return None if line is None else {"file": line.file, "line": line.number, "text": line.text}
