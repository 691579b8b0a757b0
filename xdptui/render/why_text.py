# SPDX-License-Identifier: Apache-2.0
"""Why packets got their verdicts, as text and as JSON: sites with what was counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdpchain.advice import Do, advise
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.running import Running
from xdpchain.observe.site_shares import Share, SlotReasons, shares
from xdptui.words.advice import worded
from xdptui.words.numbers import short, sparkline
from xdptui.words.printable import printable
from xdptui.words.rates import Reading, Trends
from xdptui.words.site_words import site_document, site_words

__all__ = ["Reason", "Row", "reason_lines", "reasons_table", "slot_reasons", "why_document"]

TREND = 12
"""Cells of a sparkline."""

CODES = [*(action.name for action in ALL_ACTIONS), "other"]


Row = tuple[str, Share]
"""The key of a slot, and which part of its counts."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A part of a slot's counts: the code, packets and bytes, and the sites that can have decided it. One
    site: it did; several: which of them it was is not counted; none: the site is not known, as of what was
    counted before sites were. ``portion`` is of the slot's packets; ``rate`` is None where it is not known.
    """

    row: Row
    code: str
    packets: int
    bytes: int
    rate: float | None
    portion: float
    sites: tuple[VerdictSite, ...]


def slot_reasons(slot: SlotReasons, reading: Reading | None, code: str | None = None) -> list[Reason]:
    """A slot's rows, the most packets first; ``code`` is the name of the only action that is asked for."""
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
    return sorted(rows, key=lambda row: (-(row.rate or 0), -row.packets))


def reasons_table(
    running: Running,
    slots: Sequence[SlotReasons],
    reading: Reading | None,
    why: str,
    code: str | None,
    trends: Trends[Row] | None = None,
) -> str:
    """One interface: each slot with its rows. ``trends`` gets their rates, and gives sparklines."""
    lines = [f"{printable(str(running.interface))}"]
    if reading is None:
        lines.append(f"  nothing is counted: {printable(_why_not(running, why))}")
    if not slots:
        lines.append("  no lines are known: what was recorded has none")
    found = [slot_reasons(slot, reading, code) for slot in slots]
    past: Mapping[Row, Sequence[float]] = {}
    if trends is not None:
        rows = [row for some in found for row in some]
        trends.note({row.row: row.rate for row in rows if row.rate is not None}, {row.row for row in rows})
        past = trends.all()
    for slot, some in zip(slots, found, strict=True):
        lines.append(f"  slot {slot.index} {printable(slot.name)}")
        if slot.why:
            lines.append(f"    its lines are not known: {printable(slot.why)}")
        for row in some:
            lines += [f"    {line}" for line in reason_lines(row, past.get(row.row))]
        if reading is not None and not some:
            asked = f" {code}" if code else ""
            lines.append(f"    no packet got a verdict{asked} yet")
    return "\n".join(lines)


def reason_lines(row: Reason, past: Sequence[float] | None = None) -> list[str]:
    """``DROP  136/s  ▂▃█  12k packets  8%  firewall.bpf.c:44  if (…)``; several sites a line each below."""
    rate = f"{short(row.rate)}/s" if row.rate is not None else "–/s"
    trend = "" if past is None else f" {sparkline(past, TREND):{TREND}}"
    head = f"{row.code:8} {rate:>8}{trend} {short(row.packets):>7} packets {row.portion:>4.0%}"
    if len(row.sites) == 1:
        return [f"{head}  {site_words(row.sites[0])}"]
    if not row.sites:
        return [f"{head}  in a place that is not known"]
    return [
        f"{head}  in one of {len(row.sites)} places (counted together):",
        *(f"  {site_words(site)}" for site in row.sites),
    ]


def why_document(
    running: Running, slots: Sequence[SlotReasons], reading: Reading | None, why: str, code: str | None
) -> dict[str, Any]:
    """``{"interface", "netns", "slots": [{"slot", "name", "sites": […], "codes": […]}]}`` of docs/cli.md."""
    return {
        "interface": running.interface.name,
        "netns": running.interface.netns,
        "slots": [_slot_document(slot, reading, code) for slot in slots],
        "note": "" if reading else _why_not(running, why),
    }


def _why_not(running: Running, why: str) -> str:
    """Why nothing is counted there: ``why`` where its counters could not be opened."""
    if why or running.note:
        return why or running.note
    if not running.hooks:
        return "no program runs"
    todo = worded(advise(Do.SWITCH_COUNTERS_ON, on=running.interface), running.interface.netns)
    return f"its counters are off. {todo}"


def _slot_document(slot: SlotReasons, reading: Reading | None, code: str | None) -> dict[str, Any]:
    totals = reading.totals.get(slot.key) if reading else None
    rates = reading.rates.get(slot.key) if reading else None
    rows = slot_reasons(slot, reading)
    shared = {n for row in rows if len(row.row[1].sites) > 1 for n in row.row[1].sites}
    sites = []
    for number, site in enumerate(slot.sites):
        if code is None or site.word in (code, "helper", "computed", "tail call"):
            own = [row for row in rows if row.row[1].sites == (number,)]
            known = totals is not None and number not in shared
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
