# SPDX-License-Identifier: Apache-2.0
"""The verdict sites of running programs <-> JSON, for recordings: a replay can't ask the kernel. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdpchain.bytecode.code_values import Called, Code, Source
from xdpchain.bytecode.sites import InlinedCall, SourceLine, VerdictSite
from xdpchain.decoding import ID, Fields
from xdpchain.errors import InvalidInput
from xdpchain.model.chain import MAX_SLOTS
from xdpchain.model.counts import CODES, SiteCounts
from xdpchain.observe.site_shares import SlotReasons

__all__ = ["reasons_in", "reasons_out", "site_counts_in", "site_counts_out"]

MOST_SITES = 4096
"""Most sites of a slot; a program with more is recorded without them."""

MOST_CALLS = 256
"""Most calls that lead to an inlined function, and most places of one."""

Document = dict[str, Any]


def reasons_out(reasons: Sequence[SlotReasons]) -> list[Document]:
    """The slots of one interface."""
    return [
        {
            "slot": reason.index,
            "key": reason.key,
            "name": reason.name,
            "why": reason.why,
            "sites": [_site_out(site) for site in reason.sites if len(reason.sites) <= MOST_SITES],
        }
        for reason in reasons
    ]


def reasons_in(documents: Sequence[Fields]) -> tuple[SlotReasons, ...]:
    """Read what `reasons_out` wrote. Raises InvalidInput."""
    return tuple(
        SlotReasons(
            document.integer("slot", most=MAX_SLOTS),
            document.text("key"),
            document.text("name"),
            tuple(map(_site_in, document.objects("sites", most=MOST_SITES))),
            document.text("why"),
        )
        for document in documents
    )


def site_counts_out(counts: SiteCounts) -> list[list[int]]:
    """``[[site, code, packets, bytes], ...]``"""
    return [[*which, *amounts] for which, amounts in counts.items()]


def site_counts_in(document: Fields, name: str) -> dict[tuple[int, int], tuple[int, int]]:
    """Read what `site_counts_out` wrote; empty if the recording has none. Raises InvalidInput."""
    found = {}
    for row in document.list(name, most=MOST_SITES * CODES, default=()):
        match row:
            case [int(site), int(code), int(packets), int(octets)] if site < MOST_SITES and code < CODES:
                if min(row) < 0:
                    raise InvalidInput("a reading can't be read", "a count of a site is negative")
                found[site, code] = packets, octets
            case _:
                raise InvalidInput("a reading can't be read", "it has no counts of a site")
    return found


def _site_out(site: VerdictSite) -> Document:
    code = site.code
    return {
        "code": code.value if isinstance(code, Source) else code if isinstance(code, int) else None,
        "helper": code.helper if isinstance(code, Called) else None,
        "function": site.function,
        "condition": _line_out(site.condition),
        "returns": _line_out(site.returns),
        "insn": site.insn,
        "leads": _line_out(site.leads),
        "called_from": [list(map(_call_out, calls)) for calls in site.called_from],
    }


def _site_in(document: Fields) -> VerdictSite:
    code: Code
    if "helper" in document:
        code = Called(document.integer("helper", most=ID))
    elif isinstance(word := document.value("code"), str):
        if word not in {source.value for source in Source}:
            document.refuse("code", "is none")
        code = Source(word)
    else:
        code = document.integer("code", most=ID)
    condition, returns, leads = (_line_in(document, name) for name in ("condition", "returns", "leads"))
    insn = document.integer("insn", most=ID)
    called = tuple(map(_calls_in, document.list("called_from", most=MOST_CALLS, default=())))
    function = document.text("function")
    return VerdictSite(code, function, condition, returns, insn, leads=leads, called_from=called)


def _line_out(line: SourceLine | None) -> list[Any] | None:
    return None if line is None else [line.file, line.number, line.text]


def _call_out(call: InlinedCall) -> list[Any]:
    return [call.function, call.line.file, call.line.number, call.line.text]


def _calls_in(document: Any) -> tuple[InlinedCall, ...]:
    calls = []
    for call in document if isinstance(document, list) and len(document) <= MOST_CALLS else (None,):
        match call:
            case [str(function), str(file), int(number), str(text)] if 0 <= number <= ID:
                calls.append(InlinedCall.clean(function, SourceLine.clean(file, number, text)))
            case _:
                raise InvalidInput("a reading can't be read", "an inlined call is damaged")
    return tuple(calls)


def _line_in(document: Fields, name: str) -> SourceLine | None:
    match document.value(name):
        case None:
            return None
        case [str(file), int(number), str(text)] if 0 <= number <= ID:
            return SourceLine.clean(file, number, text)
    return document.refuse(name, "is not a source line")
