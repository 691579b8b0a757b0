# SPDX-License-Identifier: Apache-2.0
"""Why packets got their verdicts, as text and as JSON: sites with their counts. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from xdpchain.advice import Do, advise
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS, Action
from xdpchain.model.paths import RETURN, successors
from xdpchain.model.routes import OTHER
from xdpchain.model.running import Running
from xdpchain.observe.site_shares import Share, SlotReasons, shares
from xdptui.words.advice import worded
from xdptui.words.numbers import short, sparkline
from xdptui.words.printable import printable
from xdptui.words.rates import Reading, Trends
from xdptui.words.site_words import site_document, site_words

__all__ = ["MARK", "MOST_FIRST", "Reason", "Row", "leads_to", "reasons_table", "slot_reasons", "why_document"]

MARK = "▸"
"""Marks the requested slot among others."""
MOST_FIRST = "  where, most first:"
"""Heads the places that drop most."""

TREND = 12
"""Cells of a sparkline."""
TREND_FROM = 72
"""Columns needed to show sparklines."""

CODES = [*(action.name for action in ALL_ACTIONS), "other"]
ORDER = ("DROP", "ABORTED", "other", "TX", "REDIRECT", "PASS")
"""Codes that usually end packets come first."""

LOSES = ("DROP", "ABORTED", "other")
MOST = 5
"""Places that are listed first."""

Row = tuple[str, Share]
"""The key of a slot, and a part of its counts."""


@frozen
class Reason:
    """A part of a slot's counts: the code, packets and bytes, and the sites that may have decided it. With
    one site, it decided; with several, they are counted together; with none, the site is unknown, as for
    packets counted before sites were. ``portion`` is the share of the slot's packets; ``rate`` is None if
    unknown.
    """

    row: Row
    code: str
    packets: int
    bytes: int
    rate: float | None
    portion: float
    sites: tuple[VerdictSite, ...]


def slot_reasons(slot: SlotReasons, reading: Reading | None, code: str | None = None) -> list[Reason]:
    """A slot's rows by `ORDER`, most packets first; ``code`` limits them to the action of that name."""
    totals = reading.totals.get(slot.key) if reading else None
    if reading is None or totals is None:
        return []
    counted = reading.sites.get(slot.key, {})
    packets = shares(slot.sites, totals.packets, {which: some for which, (some, _) in counted.items()})
    octets = shares(slot.sites, totals.bytes, {which: some for which, (_, some) in counted.items()})
    speeds = reading.site_rates.get(slot.key, {})
    rates = reading.rates.get(slot.key)
    now = None
    if rates is not None and speeds.keys() == counted.keys():
        now = shares(slot.sites, rates.packets, {which: some for which, (some, _) in speeds.items()})
    rows = [
        Reason(
            (slot.key, part),
            CODES[part.code],
            int(amount),
            int(octets.get(part, 0)),
            None if now is None else now.get(part, 0.0),
            amount / totals.all_packets,
            tuple(slot.sites[n] for n in part.sites),
        )
        for part, amount in packets.items()
        if code in (None, CODES[part.code])
    ]
    return sorted(rows, key=lambda row: (ORDER.index(row.code), -row.packets))


def reasons_table(
    running: Running,
    slots: Sequence[SlotReasons],
    reading: Reading | None,
    why: str,
    code: str | None,
    trends: Trends[Row] | None = None,
    width: int | None = None,
    marked: str | None = None,
) -> str:
    """One interface: what the chain drops, then each slot with its rows, or its sites if nothing is counted.
    ``trends`` collects their rates and provides sparklines. Lines longer than ``width`` continue indented
    below; None: no line is broken. ``marked`` is the key of a slot that gets a `MARK`.
    """
    lines = [f"{printable(str(running.interface))}"]
    if reading is None:
        lines.append(f"  nothing is counted: {printable(_why_not(running, why))}")
    else:
        lines += [_dropped(running, reading), f"    {_heading(trends is not None, width)}"]
    if not slots and running.hooks:
        lines.append("  no lines are known: the recording has none")
    found = [slot_reasons(slot, reading, code) for slot in slots]
    past: Mapping[Row, Sequence[float]] = {}
    if trends is not None:
        rows = [row for some in found for row in some]
        trends.note({row.row: row.rate for row in rows if row.rate is not None}, {row.row for row in rows})
        past = trends.all()
    lines += _most_drops(running, slots, found, code)
    for slot, some in zip(slots, found, strict=True):
        lines.append(f"{MARK if slot.key == marked else ' '} slot {slot.index} {printable(slot.name)}")
        if slot.why:
            lines.append(f"    its lines are not known: {printable(slot.why)}")
        for row in some:
            leads = leads_to(running, slot.index, row.row[1].code)
            lines += _reason_lines(row, leads, past.get(row.row), width)
        if reading is None:
            lines += [
                f"    {site.word:8} {site_words(site)}" for site in slot.sites if _may_return(site, code)
            ]
        elif not some:
            asked = f" {code}" if code else ""
            lines.append(f"    no packet got a verdict{asked} yet")
    return "\n".join(part for line in lines for part in _fitted(line, width))


def _most_drops(
    running: Running, slots: Sequence[SlotReasons], found: Sequence[Sequence[Reason]], code: str | None
) -> list[str]:
    """The places that end packets with a verdict that loses them, the busiest first, if several slots are
    shown.
    """
    places = [
        (row, slot)
        for slot, rows in zip(slots, found, strict=True)
        for row in rows
        if row.code in LOSES and leads_to(running, slot.index, row.row[1].code) == "is the verdict"
    ]
    if len(slots) < 2 or not places or code is not None:
        return []
    places.sort(key=lambda place: (-(place[0].rate or 0.0), -place[0].packets))
    lines = [MOST_FIRST]
    for row, slot in places[:MOST]:
        first = row.sites[0].line if row.sites else None
        where = f"  {first.file}:{first.number}" if first else ""
        more = f" or {len(row.sites) - 1} more" if len(row.sites) > 1 else ""
        lines.append(
            f"    {_speed(row.rate):>7}  {row.code}  slot {slot.index} {printable(slot.name)}{where}{more}"
        )
    rest = len(places) - MOST
    return lines + ([f"    and {rest} more"] if rest > 0 else [])


def leads_to(running: Running, index: int, code: int) -> str:
    """What the chain does after the slot returns this code (`CODES`); empty if unknown."""
    chain = running.chain or running.shown
    if chain is None:
        return "is the verdict"
    try:
        way = successors(chain)[index][code]
    except InvalidInput:
        return ""
    if running.emptied or way == RETURN or (way == len(chain) and code == Action.PASS):
        return "is the verdict"
    return "ends as PASS" if way == len(chain) else f"continues to slot {way}"


def _dropped(running: Running, reading: Reading) -> str:
    """What the whole chain drops, which differs from what its slots return: after some codes it goes on."""
    name, totals, rates = printable(running.interface.name), reading.verdict_totals, reading.verdict_rates
    if totals is None:
        return f"  dropped on {name}: not known, the chain's verdicts are not counted"
    counts = [
        f"{_speed(rates.packets[code] if rates else None)}, {short(totals.packets[code])} packets"
        for code in range(len(CODES))
    ]
    lost = [counts[Action.DROP]]
    lost += [f"{CODES[code]}: {counts[code]}" for code in (Action.ABORTED, OTHER) if totals.packets[code]]
    return f"  dropped on {name}: {'; '.join(lost)}; arrived: {short(totals.all_packets)}"


def _speed(rate: float | None) -> str:
    return "–/s" if rate is None else f"{short(rate)}/s"


def _trended(width: int | None) -> bool:
    return width is None or width >= TREND_FROM


def _heading(trends: bool, width: int | None) -> str:
    trend = " " * (TREND + 1) if trends and _trended(width) else ""
    return f"{'':8} {'now':>7}{trend}  since counting began"


def _reason_lines(row: Reason, leads: str, past: Sequence[float] | None, width: int | None) -> list[str]:
    """``DROP  136/s  ▂▃█  12k packets  8%  is the verdict  firewall.bpf.c:44  if (…)``; several sites, or one
    that does not fit, go on lines of their own below.
    """
    trend = "" if past is None or not _trended(width) else f" {sparkline(past, TREND):{TREND}}"
    counted = f"{short(row.packets):>6} packets {row.portion:>4.0%}"
    head = f"    {row.code:8} {_speed(row.rate):>7}{trend}  {counted}"
    if not row.sites:
        where = "in an unknown place"
    elif len(row.sites) > 1:
        where = f"in one of {len(row.sites)} places (counted together):"
    else:
        where = site_words(row.sites[0])
    lines = [head]
    for text in filter(None, (leads, where)):
        if width is None or len(f"{lines[-1]}  {text}") <= width:
            lines[-1] += f"  {text}"
        else:
            lines.append(f"      {text}")
    return [*lines, *(f"      {site_words(site)}" for site in row.sites if len(row.sites) > 1)]


def _fitted(line: str, width: int | None) -> list[str]:
    if width is None or len(line) <= width:
        return [line]
    indent = " " * min(len(line) - len(line.lstrip()) + 2, 8)
    return textwrap.wrap(line, max(width, 2 * len(indent)), subsequent_indent=indent, break_on_hyphens=False)


def why_document(
    running: Running, slots: Sequence[SlotReasons], reading: Reading | None, why: str, code: str | None
) -> dict[str, Any]:
    """``{"interface", "netns", "slots": [{"slot", "name", "sites": […], "codes": […]}]}`` as in
    docs/cli.md.
    """
    return {
        "interface": running.interface.name,
        "netns": running.interface.netns,
        "slots": [_slot_document(slot, reading, code) for slot in slots],
        "note": "" if reading else _why_not(running, why),
    }


def _why_not(running: Running, why: str) -> str:
    """Why nothing is counted there; ``why`` if its counters could not be opened."""
    if why or running.note:
        return why or running.note
    if not running.hooks:
        return "no program runs"
    todo = worded(advise(Do.SWITCH_COUNTERS_ON, on=running.interface), running.interface.netns)
    return f"its counters are off. {todo}"


def _may_return(site: VerdictSite, code: str | None) -> bool:
    """Whether a site can decide for this code; None: no code is asked for."""
    return code is None or site.word in (code, "helper", "computed", "tail call")


def _slot_document(slot: SlotReasons, reading: Reading | None, code: str | None) -> dict[str, Any]:
    totals = reading.totals.get(slot.key) if reading else None
    rates = reading.rates.get(slot.key) if reading else None
    rows = slot_reasons(slot, reading)
    shared = {n for row in rows if len(row.row[1].sites) > 1 for n in row.row[1].sites}
    sites = []
    for index, site in enumerate(slot.sites):
        if _may_return(site, code):
            own = [row for row in rows if row.row[1].sites == (index,)]
            known = totals is not None and index not in shared
            speeds = [row.rate for row in own if row.rate is not None]
            numbers = {
                "packets": sum(row.packets for row in own) if known else None,
                "bytes": sum(row.bytes for row in own) if known else None,
                "rate": sum(speeds, 0.0) if known and rates is not None and len(speeds) == len(own) else None,
            }
            sites.append(site_document(site) | numbers)
    return {
        "slot": slot.index,
        "name": slot.name,
        "sites": sites,
        "codes": [
            {
                "code": name,
                "packets": int(totals.packets[n]),
                "bytes": int(totals.bytes[n]),
                "rate": rates.packets[n] if rates else None,
            }
            for n, name in enumerate(CODES)
            if totals is not None and code in (None, name)
        ],
        "why": slot.why,
    }
