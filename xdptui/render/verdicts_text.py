# SPDX-License-Identifier: Apache-2.0
"""Verdict sites as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from xdpchain.bytecode.code_values import Called
from xdpchain.bytecode.opcodes import Helper
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.objects.verdicts import ProgramVerdicts
from xdptui.words.site_words import site_document, site_words

__all__ = [
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
    "helper": "returns a redirect helper's result",
    "tail call": "tail-calls another program",
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


def _in_short(found: ProgramVerdicts) -> str:
    told = summary(found.sites)
    if found.throws:
        told = f"{told.removeprefix('always ')}, or ends with a code that it throws (bpf_throw)"
    return told


def verdicts_text(found: ProgramVerdicts) -> str:
    """A program's sites, one per line, below a summary."""
    lines = [f"{found.name}: {_in_short(found)}"]
    width = max((len(_label(site)) for site in found.sites), default=0)
    lines += [f"  {_label(site):{width}}  {site_words(site)}" for site in found.sites]
    if not found.lined:
        lines.append("  It has no line information: build it with clang -g to see source lines.")
    return "\n".join(lines)


def verdict_facts(found: ProgramVerdicts, *, lines: bool) -> list[str]:
    """For the load dialog: a one-line summary and, if ``lines``, the sites."""
    told = _in_short(found)
    if not lines:
        return [f"{told} (ctrl+l: which lines decide)"]
    return [told, *verdicts_text(found).splitlines()[1:]]


def verdicts_document(found: Iterable[ProgramVerdicts]) -> dict[str, Any]:
    """``{"programs": [{"name", "sites": […], "throws"}]}``, see docs/cli.md."""
    return {
        "programs": [
            {
                "name": verdicts.name,
                "sites": [site_document(site) for site in verdicts.sites],
                "throws": verdicts.throws,
            }
            for verdicts in found
        ]
    }


def _label(site: VerdictSite) -> str:
    if isinstance(site.code, Called):
        return f"{Helper(site.code.helper).function}()"
    return site.word
