# SPDX-License-Identifier: Apache-2.0
"""Why packets got their verdicts, as text and as JSON: sites with what was counted. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xdpchain.advice import Do, advise
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.running import Running
from xdpchain.observe.reasons import SlotReasons, attribute
from xdptui.render.verdicts_text import site_document, site_words
from xdptui.words.advice import worded
from xdptui.words.numbers import short
from xdptui.words.printable import printable
from xdptui.words.rates import Rates, Reading

__all__ = ["Reason", "reason_lines", "reasons_table", "slot_reasons", "why_document"]

CODES = [*(action.name for action in ALL_ACTIONS), "other"]


@dataclass(frozen=True, slots=True)
class Reason:
    """A row: a code, how many packets got it, and the sites that can have decided that. One site: it did;
    several: which of them it was is not counted. ``share`` is of the slot's packets; ``rate`` None: unknown.
    """

    code: str
    packets: int
    bytes: int
    rate: float | None
    share: float
    sites: tuple[VerdictSite, ...]


def slot_reasons(slot: SlotReasons, reading: Reading | None, code: str | None = None) -> list[Reason]:
    """A slot's rows, the most packets first; ``code`` is the name of the only action that is asked for."""
    totals = reading.totals.get(slot.key) if reading else None
    rates = reading.rates.get(slot.key) if reading else None
    if totals is None:
        return []
    every = totals.all_packets
    rows = []
    for group, parts in _groups(slot.sites, totals):
        packets, octets = (sum(values[n] for n in parts) for values in (totals.packets, totals.bytes))
        if not packets:
            continue
        rate = sum(rates.packets[n] for n in parts) if rates else None
        names = " ".join(CODES[n] for n in parts if totals.packets[n])
        share = packets / every if every else 0.0
        rows.append(Reason(names, int(packets), int(octets), rate, share, group))
    rows = [row for row in rows if code is None or code in row.code.split()]
    return sorted(rows, key=lambda row: (-(row.rate or 0), -row.packets))


def _groups(
    sites: Sequence[VerdictSite], totals: Rates
) -> Iterator[tuple[tuple[VerdictSite, ...], list[int]]]:
    """Codes (indices) by the sites that can have decided them."""
    found: dict[tuple[int, ...], list[int]] = {}
    for code in range(len(CODES)):
        alone = [1.0 if n == code else 0.0 for n in range(len(CODES))]
        own, shared = attribute(sites, alone)
        able = shared[0].sites if shared else tuple(n for n, part in enumerate(own) if part)
        # A code that one constant site decides is a row of its own.
        found.setdefault(able or (-1 - code,), []).append(code)
    for able, codes in found.items():
        yield tuple(sites[n] for n in able if n >= 0), codes


def reasons_table(
    running: Running, slots: Sequence[SlotReasons], reading: Reading | None, why: str, code: str | None
) -> str:
    """One interface: each slot with its rows."""
    lines = [f"{printable(str(running.interface))}"]
    if reading is None:
        lines.append(f"  nothing is counted: {printable(_why_not(running, why))}")
    for slot in slots:
        lines.append(f"  slot {slot.index} {printable(slot.name)}")
        if slot.why:
            lines.append(f"    its lines are not known: {printable(slot.why)}")
        rows = slot_reasons(slot, reading, code)
        for row in rows:
            lines += [f"    {line}" for line in reason_lines(row)]
        if reading is not None and not rows:
            asked = f" {code}" if code else ""
            lines.append(f"    no packet got a verdict{asked} yet")
    return "\n".join(lines)


def reason_lines(row: Reason) -> list[str]:
    """``DROP  136/s  12k packets  8%  firewall.bpf.c:44  if (…)``; several sites a line each below."""
    rate = f"{short(row.rate)}/s" if row.rate is not None else "–/s"
    head = f"{row.code:8} {rate:>8} {short(row.packets):>7} packets {row.share:>4.0%}"
    if len(row.sites) == 1:
        return [f"{head}  {site_words(row.sites[0])}"]
    if not row.sites:
        return [head]
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
    packets = attribute(slot.sites, totals.packets)[0] if totals else (None,) * len(slot.sites)
    octets = attribute(slot.sites, totals.bytes)[0] if totals else (None,) * len(slot.sites)
    speeds = attribute(slot.sites, rates.packets)[0] if rates else (None,) * len(slot.sites)
    sites = []
    for site, count, size, speed in zip(slot.sites, packets, octets, speeds, strict=True):
        if code is None or site.word in (code, "helper", "computed", "tail call"):
            known = count is not None
            numbers = {"packets": _whole(count), "bytes": _whole(size if known else None)}
            sites.append(site_document(site) | numbers | {"rate": speed if known else None})
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


def _whole(amount: float | None) -> int | None:
    return None if amount is None else int(amount)
