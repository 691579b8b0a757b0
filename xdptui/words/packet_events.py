# SPDX-License-Identifier: Apache-2.0
"""What happened to packets after their program returned: names, text and lines. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from textwrap import wrap

from xdpchain.frozen import frozen
from xdptui.words.numbers import short
from xdptui.words.printable import printable

__all__ = ["Happened", "PacketEvents", "Told", "packet_event_lines"]

Part = tuple[str, str]
"""A text and its style, in Textual's notation."""

DIM, HEAD, BAD = "$foreground 65%", "bold $primary", "$error"
WAY = 25


@frozen
class Told:
    """One row: packets that were sent on, or lost, for one reason. Rates are packets per second;
    ``target_sent`` is what the target itself counts as sent meanwhile, None if unknown.
    """

    tracepoint: str
    interface: str
    ifindex: int | None
    target: str
    target_ifindex: int | None
    via: str
    program: int | None
    program_name: str
    name: str
    words: str
    todo: str
    source: str
    times: int
    sent: int
    lost: int
    sent_rate: float
    lost_rate: float
    target_sent: int | None

    @property
    def way(self) -> str:
        """From where to where."""
        return way(self.interface, self.target)


@frozen
class Happened:
    """One event; ``at`` is in seconds since 1970. ``head``: the packet's first bytes in hex, if kept.
    ``lost`` counts packets; for policy violations, the packets concerned.
    """

    at: float
    interface: str
    target: str
    via: str
    name: str
    words: str
    lost: int
    head: str = ""

    @property
    def alike(self) -> tuple[str, ...]:
        """What events that share a line have in common."""
        return (self.interface, self.target, self.via, self.name, self.words)


@frozen
class PacketEvents:
    """A reading: since ``seconds``. The last ``fresh`` of the events are new. ``untold`` events were counted
    but not reported, ``unplaced`` packets found no row, ``missed`` calls the kernel skipped.
    """

    at: float
    seconds: float
    lost: tuple[Told, ...] = ()
    sent: tuple[Told, ...] = ()
    events: tuple[Happened, ...] = ()
    fresh: int = 0
    untold: int = 0
    unplaced: int = 0
    missed: int = 0


def way(interface: str, target: str) -> str:
    """From where to where."""
    return printable(" → ".join(part for part in (interface, target) if part))


def because(name: str, words: str) -> str:
    """A reason."""
    return printable(f"{name}: {words}" if name else words)


def packet_event_lines(found: PacketEvents, width: int = 80, events: int = 8) -> list[list[Part]]:
    """A list of parts for each line, at most ``width`` wide except for names."""
    lines: list[list[Part]] = [_head("Lost", "packets", "/s", width)]
    lines += _lost(found.lost, width) or [[("  nothing", DIM)]]
    lines += [[("", "")], _head("Sent on", "packets", "/s", width)]
    lines += _sent(found.sent, width) or [[("  nothing", DIM)]]
    lines += [[("", "")], [("Last events", HEAD)]]
    lines += _events(found, events, width) or [[("  none", DIM)]]
    lines += [[(f"  {text}", DIM)] for text in _missing(found)]
    return lines


def _head(what: str, first: str, second: str, width: int) -> list[Part]:
    return [(what.ljust(width - 16), HEAD), (f"{first:>8} {second:>6}", DIM)]


def _row(text: str, number: int, rate: float, width: int, style: str = "") -> list[Part]:
    room = width - 16
    cut = text if len(text) <= room else text[: room - 1] + "…"
    return [(cut.ljust(room), style), (f"{short(number):>8} {short(rate):>6}", "bold" if style else "")]


def _lost(rows: Iterable[Told], width: int) -> list[list[Part]]:
    lines = []
    for row in rows:
        via = f" [{row.via}]" if row.via else ""
        name = row.name or row.tracepoint
        lines.append(_row(f"  {row.way:<{WAY}} {name}{via}", row.lost, row.lost_rate, width, BAD))
        for text, style in ((row.words, ""), (row.todo, DIM)):
            for part in wrap(printable(text), width - 4):
                lines.append([(f"    {part}", style)])
    return lines


def _sent(rows: Iterable[Told], width: int) -> list[list[Part]]:
    lines = []
    for row in rows:
        text = f"  {row.way:<{WAY}} {row.via}"
        if row.target_sent is not None:
            text += f"{printable(row.target)} itself sent {short(row.target_sent)} in total"
        lines.append(_row(text, row.sent, row.sent_rate, width))
    return lines


def _events(found: PacketEvents, most: int, width: int) -> list[list[Part]]:
    """Newest first; repeated events take one line."""
    lines: list[list[Part]] = []
    newest: Happened | None = None
    times = 0
    for event in (*found.events[::-1], None):
        if newest is not None and (event is None or event.alike != newest.alike):
            lines.append(_event(newest, times, width))
            times = 0
            if len(lines) == most:
                break
        newest = event if times == 0 else newest
        times += event.lost if event is not None else 0
    return lines


def _event(event: Happened, times: int, width: int) -> list[Part]:
    clock = time.strftime("%H:%M:%S", time.localtime(event.at)) + f".{int(event.at * 1000) % 1000:03}"
    many = f"{short(times)} × " if times > 1 else ""
    text = f"{way(event.interface, event.target or event.via)}  {many}{because(event.name, event.words)}"
    room = width - 16
    return [(f"  {clock} ", DIM), (text if len(text) <= room else text[: room - 1] + "…", "")]


def _missing(found: PacketEvents) -> Sequence[str]:
    texts = []
    if found.untold:
        texts.append(f"{found.untold} more events came too fast to list; all are counted")
    if found.unplaced:
        texts.append(f"{found.unplaced} packets had no row: these tables are incomplete")
    if found.missed:
        texts.append(f"the kernel skipped {found.missed} calls: these tables are incomplete")
    return texts
