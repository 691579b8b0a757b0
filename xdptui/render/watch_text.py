# SPDX-License-Identifier: Apache-2.0
"""A reading of the counters as a table and as a document. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.running import Running
from xdptui.render.documents import behind
from xdptui.words.behind_words import behind_lines
from xdptui.words.numbers import UNKNOWN, short
from xdptui.words.owners import whose
from xdptui.words.printable import printable
from xdptui.words.rates import NOTHING, CpuCounts, Rates, Reading

if TYPE_CHECKING:
    from xdptui.workers.behind_meter import BehindReading
    from xdptui.workers.queue_meter import QueueReading

__all__ = [
    "behind_documents",
    "behind_rows",
    "cpu_documents",
    "cpu_rows",
    "cpu_table",
    "queue_documents",
    "queue_rows",
    "reading_document",
    "reading_table",
]

NAME = 20
CPU = 14
"""Columns of a name, and of a CPU with its share: a table of CPUs fits into a dialog of 80 columns."""
SHADOW, OFF = " (shadow)", " (off)"


def reading_table(running: Running, reading: Reading | None, why: str) -> str:
    """One interface: packets per second by action, bytes per second, and packet totals.

    ``why`` says why there is no reading.
    """
    lines = [_head(running)]
    chain = running.chain or running.shown
    if reading is None:
        return f"{lines[0]}\n  {printable(why or running.note or 'nothing counts here')}"
    lines.append(_columns("Program"))
    for i, slot in enumerate(chain or ()):
        rates, totals = reading.rates.get(slot.key), reading.totals.get(slot.key)
        lines.append(_row(str(i), slot.name, rates, totals, OFF * slot.off or SHADOW * slot.shadow))
    last = "verdict" if chain or running.hook is None else running.hook.name
    lines.append(_row("", last, reading.verdict_rates, reading.verdict_totals))
    return "\n".join(lines)


def behind_rows(readings: Sequence[BehindReading]) -> list[str]:
    """The programs in maps, each with a row of its return codes, or why they are not counted."""

    def returned(number: int) -> list[str]:
        reading = readings[number]
        if reading.totals is None:
            return [f"  not counted: {printable(reading.why)}"]
        return [_row("", "returned", reading.rates, reading.totals)[2:]]

    lines = behind_lines([reading.behind for reading in readings], returned)
    return [f"  {line}" for line in lines]


def behind_documents(readings: Sequence[BehindReading]) -> list[dict[str, Any]]:
    """``[{"map", "index", "ifindex", "program", "counters", "rates", "not_counted"}]``"""
    return [
        behind(reading.behind)
        | {
            "counters": _amounts(reading.totals, whole=True),
            "rates": _amounts(reading.rates),
            "not_counted": reading.why,
        }
        for reading in readings
    ]


def cpu_table(running: Running, cpus: Sequence[CpuCounts]) -> str:
    """One interface, CPU by CPU."""
    return "\n".join((_head(running), _columns("CPU", CPU), *cpu_rows(cpus, CPU)))


def cpu_rows(cpus: Sequence[CpuCounts], size: int = NAME) -> list[str]:
    """A row for each CPU that returned anything, with its share of all packets; ``size``: the width of the
    first column.
    """
    every = sum(cpu_counts.totals.all_packets for cpu_counts in cpus)
    busy = [cpu_counts for cpu_counts in cpus if cpu_counts.totals.all_packets]
    if not busy:
        return ["  by CPU: not counted, or not known"]
    shares = (f"{cpu_counts.totals.all_packets / every:.0%}" for cpu_counts in busy)
    return [
        _row("", f"CPU {cpu_counts.cpu}, {share}", cpu_counts.rates, cpu_counts.totals, size=size)
        for cpu_counts, share in zip(busy, shares, strict=True)
    ]


def cpu_documents(cpus: Sequence[CpuCounts]) -> list[dict[str, Any]]:
    """``[{"cpu", "verdict", "verdict_rates"}]``"""
    return [
        {
            "cpu": cpu_counts.cpu,
            "verdict": _amounts(cpu_counts.totals, whole=True),
            "verdict_rates": _amounts(cpu_counts.rates),
        }
        for cpu_counts in cpus
    ]


def queue_rows(reading: QueueReading) -> list[str]:
    """A row for each RX queue: what the driver counted, per second and in total."""
    if reading.why:
        return [f"  by RX queue: {printable(reading.why)}"]
    rows = []
    for counts in reading.queues:
        parts = (
            f"{what} {short(total)}{_each_second(reading, counts.queue, what)}"
            for what, total in counts.packets.items()
        )
        rows.append(f"     RX queue {counts.queue}: " + ", ".join(parts))
    return rows


def _each_second(reading: QueueReading, queue: int, what: str) -> str:
    rate = 0 if reading.rates is None else reading.rates[queue, what]
    return f" ({short(rate)}/s)" if rate else ""


def queue_documents(reading: QueueReading) -> dict[str, Any]:
    """``{"queues": [{"queue", "packets", "rates"}], "queues_why"}``"""
    return {
        "queues": [
            {
                "queue": counts.queue,
                "packets": dict(counts.packets),
                "rates": None
                if reading.rates is None
                else {what: round(reading.rates[counts.queue, what], 3) for what in counts.packets},
            }
            for counts in reading.queues
        ],
        "queues_why": reading.why,
    }


def _columns(what: str, size: int = NAME) -> str:
    codes = "".join(f"{action.letter}/s".rjust(6) for action in ALL_ACTIONS)
    return f"  {'':2} {what:{size}} {'pkt/s':>6} {codes} {'B/s':>6} {'packets':>8}"


def _head(running: Running) -> str:
    words = [printable(str(running.interface))]
    if running.hook is not None:
        words.append(
            f"{running.mode} mode, {whose(running.owner)}" if running.owner else f"{running.mode} mode"
        )
    if running.linkage is not None:
        words.append(f"{running.linkage} linkage")
    return ", ".join(words)


def _row(
    number: str, name: str, rates: Rates | None, totals: Rates | None, mark: str = "", *, size: int = NAME
) -> str:
    shown = printable(name)
    if mark:  # the mark stays when the name is truncated
        shown = f"{shown[: size - len(mark)]}{mark}"
    shown = shown[:size]
    total = short(totals.all_packets) if totals else UNKNOWN
    if rates is None:
        cells = "".join(UNKNOWN.rjust(6) for _ in ALL_ACTIONS)
        return f"  {number:>2} {shown:{size}} {UNKNOWN:>6} {cells} {UNKNOWN:>6} {total:>8}"
    cells = "".join(short(rates.packets[action]).rjust(6) for action in ALL_ACTIONS)
    every = short(rates.all_packets)
    return f"  {number:>2} {shown:{size}} {every:>6} {cells} {short(rates.all_bytes):>6} {total:>8}"


def reading_document(running: Running, reading: Reading | None, why: str) -> dict[str, Any]:
    """One entry of a line's ``interfaces``; rates are null after only one reading."""
    where = running.interface
    slots = []
    for i, slot in enumerate(running.chain or running.shown or ()):
        totals = reading.totals.get(slot.key) if reading else None
        rates = reading.rates.get(slot.key) if reading else None
        slots.append(
            {
                "slot": i,
                "name": slot.name,
                "id": slot.id,
                "key": slot.key,
                "shadow": slot.shadow,
                "off": slot.off,
                "counters": _amounts(totals, whole=True),
                "rates": _amounts(rates),
            }
        )
    return {
        "name": where.name,
        "ifindex": where.ifindex,
        "netns": where.netns,
        "dispatcher": running.dispatcher
        and {"id": running.dispatcher.id, "version": running.dispatcher.version},
        "seconds": reading.seconds if reading else None,
        "slots": slots,
        "verdict": _amounts(reading.verdict_totals if reading else None, whole=True),
        "verdict_rates": _amounts(reading.verdict_rates if reading else None),
        "note": "" if reading else why or running.note,
    }


def _amounts(rates: Rates | None, *, whole: bool = False) -> dict[str, dict[str, float]] | None:
    if rates is None:
        return None
    if rates is NOTHING and not whole:
        return _NOTHING
    return _by_code(rates, int if whole else _rounded)


def _by_code(rates: Rates, amount: Callable[[float], float]) -> dict[str, dict[str, float]]:
    pairs = zip(_CODES, rates.packets, rates.bytes, strict=True)
    return {name: {"packets": amount(packets), "bytes": amount(size)} for name, packets, size in pairs}


def _rounded(rate: float) -> float:
    return round(rate, 3)


_CODES: Final = (*(action.xdp_name for action in ALL_ACTIONS), "other")
_NOTHING: Final = _by_code(NOTHING, _rounded)
