# SPDX-License-Identifier: Apache-2.0
"""Verdict sites as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from xdpchain.bytecode.deciding import Called
from xdpchain.bytecode.opcodes import Helper
from xdpchain.bytecode.sites import SourceLine, VerdictSite
from xdpchain.objects.verdicts import ProgramVerdicts

__all__ = [
    "site_document",
    "site_words",
    "summary",
    "verdict_facts",
    "verdicts_document",
    "verdicts_text",
]

VERBS = {
    "PASS": "passes",
    "DROP": "drops",
    "TX": "sends back (TX)",
    "REDIRECT": "redirects",
    "ABORTED": "aborts",
    "helper": "returns what a redirect helper says",
    "tail call": "hands on to another program (tail call)",
    "computed": "returns a computed code",
}


def summary(sites: Sequence[VerdictSite]) -> str:
    """``passes in 7 places, drops in 4``."""
    counts: dict[str, int] = {}
    for site in sites:
        counts[site.word] = counts.get(site.word, 0) + 1
    order = [*VERBS, *sorted(counts.keys() - VERBS.keys())]
    parts = [
        f"{VERBS.get(word, f'returns {word}')} in {counts[word]} place{'s' * (counts[word] != 1)}"
        for word in order
        if word in counts
    ]
    if len(parts) == 1 and len(sites) == 1:
        word = sites[0].word
        return f"always {VERBS.get(word, f'returns {word}')}"
    return ", ".join(parts)


def site_words(site: VerdictSite) -> str:
    """``firewall.bpf.c:47  if (blocked)  → return XDP_DROP;``; without line information the instruction."""
    line = site.line
    if line is None:
        return f"{site.function or 'the program'}, instruction {site.insn}"
    returns = ""
    if site.condition is not None and site.returns is not None and site.returns != site.condition:
        returns = f"  → {_elsewhere(site.returns, line)}{site.returns.text}"
    return f"{line.file}:{line.number}  {line.text}{returns}"


def verdicts_text(found: ProgramVerdicts) -> str:
    """A program's sites, a line each, under what they sum up to."""
    lines = [f"{found.name}: {summary(found.sites)}"]
    width = max((len(_label(site)) for site in found.sites), default=0)
    lines += [f"  {_label(site):{width}}  {site_words(site)}" for site in found.sites]
    if not found.lined:
        lines.append("  It has no line information: build it with clang -g to see source lines.")
    return "\n".join(lines)


def verdict_facts(found: ProgramVerdicts, *, lines: bool) -> list[str]:
    """For the dialog that loads it: what it does in a line, and on request where."""
    told = f"{summary(found.sites)}"
    if not lines:
        return [f"{told} (ctrl+l: which lines decide)"]
    return [told, *verdicts_text(found).splitlines()[1:]]


def verdicts_document(found: Iterable[ProgramVerdicts]) -> dict[str, Any]:
    """``{"programs": [{"name", "sites": […]}]}``, see docs/cli.md."""
    return {
        "programs": [
            {"name": one.name, "sites": [site_document(site) for site in one.sites]} for one in found
        ]
    }


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


def _label(site: VerdictSite) -> str:
    if isinstance(site.code, Called):
        return f"{Helper(site.code.helper).function}()"
    return site.word


def _elsewhere(line: SourceLine, shown: SourceLine) -> str:
    return f"{line.number}  " if line.file == shown.file else f"{line.file}:{line.number}  "
