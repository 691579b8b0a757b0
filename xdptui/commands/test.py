# SPDX-License-Identifier: Apache-2.0
"""``xdptui test``: run packets through a program without attaching it; show the line that decided each, and
the lines that none of them reached.
"""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS, Action
from xdpchain.model.link_layer import ETHERNET
from xdpchain.objects.components import load_component
from xdpchain.trial.packets.builtin import builtin
from xdpchain.trial.packets.frames import Host
from xdpchain.trial.packets.packet import Packet
from xdpchain.trial.packets.sources import BUILTIN, file_packets, read_source
from xdpchain.trial.reached import SiteTrial
from xdptui.outcome import ExitCode, write
from xdptui.render.reached_text import Row, places, reached_document, reached_text

__all__ = ["run"]


@frozen
class Expected:
    """The expected result for a packet: its verdict and, optionally, the line (``file:line``)."""

    verdict: str
    line: str | None


def run(options: Namespace) -> int:
    """Returns 1 if an expectation fails."""
    packets: list[Packet] = []
    notes: list[str] = []
    for source in options.packets or [BUILTIN]:
        if source == BUILTIN:
            packets += builtin(Host.number(1), Host.number(2), ETHERNET)
        else:
            supply = file_packets(source, ETHERNET)
            packets += supply.packets
            notes += supply.notes
    expected = _expectations(options.expect, len(packets)) if options.expect else {}
    component = load_component(options.object, name=options.name)
    rows = []
    with SiteTrial(component) as trial:
        for number, packet in enumerate(packets, 1):
            ran = trial.run(packet.data)
            rows.append(_row(number, packet, ran.code, ran.site, trial, expected.get(number)))
        sites = trial.sites
    if options.json:
        write(json.dumps(reached_document(component.name, rows, sites, notes), indent=2))
    else:
        write(reached_text(component.name, rows, sites, notes))
    return ExitCode.OK if all(row.ok is not False for row in rows) else ExitCode.REFUSED


def _row(
    number: int, packet: Packet, code: int, site: int | None, trial: SiteTrial, expected: Expected | None
) -> Row:
    verdict = Action(code).name if code in ALL_ACTIONS else str(code)
    ok, words = None, ""
    if expected is not None:
        where = places(trial.sites[site]) if site is not None else ()
        ok = verdict == expected.verdict and (expected.line is None or expected.line in where)
        words = " ".join(filter(None, (expected.verdict, expected.line)))
    return Row(number, packet.name, verdict, site, words, ok)


def _expectations(path: str, count: int) -> dict[int, Expected]:
    """One ``NUMBER VERDICT [FILE:LINE]`` per line, # starts a comment. Raises InvalidInput, NotFound."""
    found: dict[int, Expected] = {}
    data, name = read_source(path)
    for place, raw in enumerate(data.decode(errors="replace").splitlines(), 1):
        words = raw.partition("#")[0].split()
        if not words:
            continue
        try:
            number, verdict, *rest = words
            if not 1 <= int(number) <= count or len(rest) > 1:
                raise ValueError
            found[int(number)] = Expected(Action.parse(verdict).name, rest[0] if rest else None)
        except (ValueError, InvalidInput):
            raise InvalidInput(
                f"{name} can't be used",
                f"line {place} is {raw.strip()!r}",
                f"Write NUMBER VERDICT [FILE:LINE], such as `1 DROP`, with a number from 1 to {count}",
            ) from None
    return found
