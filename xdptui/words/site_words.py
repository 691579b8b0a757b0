# SPDX-License-Identifier: Apache-2.0
"""Verdict sites as text and as JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdpchain.bytecode.sites import SourceLine, VerdictSite

__all__ = ["site_document", "site_words"]

MOST_PLACES = 3
"""Calls of an inlined function that are told; JSON has all."""


def site_words(site: VerdictSite) -> str:
    """``firewall.bpf.c:47  if (blocked)  → 48  return XDP_DROP;``: the condition, and the branch taken, shown
    by the line it led to; without line information, the instruction. In an inlined function also
    ``(called from 61)``.
    """
    line = site.line
    if line is None:
        shown = f"{site.function or 'the program'}, instruction {site.insn}"
    else:
        shown = f"{line.file}:{line.number}  {line.text}".rstrip()
        led = site.returns if site.returns not in (None, site.condition) else site.leads
        if site.condition is not None and led is not None:
            shown = f"{shown}  → {_place(led, line.file)}  {led.text.strip('{}')}".rstrip()
    return f"{shown}  ({_called(site)})" if site.called_from else shown


def _place(line: SourceLine, file: str) -> str:
    """The line's number, with its file where that is another one."""
    return f"{line.number}" if line.file == file else f"{line.file}:{line.number}"


def _called(site: VerdictSite) -> str:
    """``called from 61, or from 17 from 70``: a function inlined twice, once within another one."""
    places = []
    for calls in site.called_from[:MOST_PLACES]:
        file, numbers = site.line.file if site.line else "", []
        for call in calls:
            numbers.append(_place(call.line, file))
            file = call.line.file
        places.append(" from ".join(numbers))
    more = len(site.called_from) - len(places)
    if more:
        places.append(f"{more} more place{'s' * (more != 1)}")
    return f"called from {', or from '.join(places)}"


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
        "called_from": [
            [
                {"function": call.function, **_document(call.line), "text": call.line.text or None}
                for call in calls
            ]
            for calls in site.called_from
        ],
    }


def _line_document(line: SourceLine | None) -> dict[str, Any] | None:
    return None if line is None else _document(line)


def _document(line: SourceLine) -> dict[str, Any]:
    return {"file": line.file, "line": line.number, "text": line.text}
