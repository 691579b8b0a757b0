# SPDX-License-Identifier: Apache-2.0
"""Verdict sites in words, and for JSON. Pure."""

from __future__ import annotations

from typing import Any

from xdpchain.bytecode.sites import SourceLine, VerdictSite

__all__ = ["site_document", "site_place", "site_words"]


def site_words(site: VerdictSite) -> str:
    """``firewall.bpf.c:47  if (blocked)  → return XDP_DROP;``; without line information the instruction."""
    line = site.line
    if line is None:
        return f"{site.function or 'the program'}, instruction {site.insn}"
    returns = ""
    if site.condition is not None and site.returns is not None and site.returns != site.condition:
        returns = f"  → {_elsewhere(site.returns, line)}{site.returns.text}"
    return f"{line.file}:{line.number}  {line.text}{returns}"


def site_place(site: VerdictSite) -> str:
    """``firewall.bpf.c:47``, or ``instruction 7``."""
    return f"{site.line.file}:{site.line.number}" if site.line else f"instruction {site.insn}"


def site_document(site: VerdictSite) -> dict[str, Any]:
    """One site; ``line`` is null without line information, and ``text`` names the instruction then."""
    line = site.line
    return {
        "code": site.word,
        "function": site.function,
        "file": line.file if line else None,
        "line": line.number if line else None,
        "text": line.text if line else f"instruction {site.insn}",
        "condition": site.condition is not None or (line is None and bool(site.edges)),
        "return": _line_document(site.returns),
    }


def _line_document(line: SourceLine | None) -> dict[str, Any] | None:
    return None if line is None else {"file": line.file, "line": line.number, "text": line.text}


def _elsewhere(line: SourceLine, shown: SourceLine) -> str:
    return f"{line.number}  " if line.file == shown.file else f"{line.file}:{line.number}  "
