# SPDX-License-Identifier: Apache-2.0
"""The lines of a recording <-> values. Pure.

The first line of a file is its header. Every other one has ``at`` (seconds since 1970), ``elapsed`` (seconds
since the recording began, by a clock that is never set), and one word that says what it is: ``running`` (what
runs, written when it changed), ``interfaces`` (what was counted, in the words of ``watch --jsonl``; actions
with no packets are left out) or ``happened`` (what became of packets after their program, in the words of
``events --json``, written when something did). Readers skip words that they don't know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, XdpChainError
from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.counts import CODES, Sample, SlotCounts
from xdpchain.model.running import Running

from .states import running_in, running_out

__all__ = [
    "FORMAT",
    "Counted",
    "Happened",
    "Header",
    "Reading",
    "Revision",
    "happened_out",
    "header_in",
    "header_out",
    "line_in",
    "reading_out",
    "revision_out",
]

FORMAT: Final = 1
MARK: Final = "xdptui_recording"
MOST: Final = 1 << 64
_NAMES: Final = (*(action.xdp_name for action in ALL_ACTIONS), "other")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file begins with. ``recording`` is the same in all parts of one recording, ``part`` counts them;
    ``started``: seconds since 1970, ``interval``: seconds between two readings.
    """

    recording: str
    part: int
    started: float
    interval: float
    host: str = ""
    netns: str | None = None
    made_by: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """One interface in a reading: ``sample`` is None where nothing counted (``note`` says why). ``cost`` is
    what counting added to a packet, in ns, where it was done from outside.
    """

    name: str
    ifindex: int
    sample: Sample | None
    note: str = ""
    cost: int | None = None
    netns: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was counted at one time, by ifindex. The samples' clock is ``elapsed``."""

    at: float
    elapsed: float
    counted: Mapping[int, Counted] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revision:
    """What ran from this time on."""

    at: float
    elapsed: float
    runnings: tuple[Running, ...] = ()


@dataclass(frozen=True, slots=True)
class Happened:
    """What became of packets until then: ``told`` has all since the recording began, and the events since the
    last one of these.
    """

    at: float
    elapsed: float
    told: Mapping[str, Any]


def header_out(header: Header) -> bytes:
    return _line(
        {
            MARK: FORMAT,
            "recording": header.recording,
            "part": header.part,
            "started": header.started,
            "interval": header.interval,
            "host": header.host,
            "netns": header.netns,
            "made_by": header.made_by,
        }
    )


def header_in(line: bytes, where: str) -> Header:
    """Raises InvalidInput: no recording, or one of a later format."""
    try:
        document = json.loads(line)
        number = document[MARK]
        if number != FORMAT:
            raise InvalidInput(
                f"{where} can't be replayed",
                f"it is a recording of format {number}, and this reads {FORMAT}",
                "Use the xdptui that made it, or a newer one",
            )
        netns = document.get("netns")
        return Header(
            str(document["recording"]),
            int(document["part"]),
            float(document["started"]),
            float(document["interval"]),
            str(document.get("host", "")),
            None if netns is None else str(netns),
            str(document.get("made_by", "")),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput(
            f"{where} is no recording", "it does not begin as one", advise(Do.RECORD)
        ) from None


def revision_out(at: float, elapsed: float, runnings: Sequence[Running]) -> bytes:
    return _line({"at": at, "elapsed": elapsed, "running": [running_out(one) for one in runnings]})


def reading_out(reading: Reading, names: Mapping[str, str] | None = None) -> bytes:
    """``names`` are those of the slots by key, for people and scripts that read the file."""
    interfaces = []
    for one in reading.counted.values():
        entry: dict[str, Any] = {"name": one.name, "ifindex": one.ifindex, "netns": one.netns}
        if one.sample is not None:
            entry["slots"] = [
                {"key": key, "name": (names or {}).get(key, ""), "counters": _counts_out(counts)}
                for key, counts in one.sample.slots.items()
            ]
            entry["verdict"] = _counts_out(one.sample.verdict)
        if one.note:
            entry["note"] = one.note
        if one.cost is not None:
            entry["cost_ns"] = one.cost
        interfaces.append(entry)
    return _line({"at": reading.at, "elapsed": reading.elapsed, "interfaces": interfaces})


def happened_out(one: Happened) -> bytes:
    return _line({"at": one.at, "elapsed": one.elapsed, "happened": dict(one.told)})


def line_in(line: bytes) -> Reading | Revision | Happened | None:
    """A line after the header; None for one of another kind. Raises InvalidInput for one that is damaged."""
    try:
        document = json.loads(line)
        at, elapsed = float(document["at"]), float(document["elapsed"])
        if not (0 <= elapsed < 1e12 and abs(at) < 1e12):
            raise ValueError("time")
        if "running" in document:
            return Revision(at, elapsed, tuple(running_in(one) for one in document["running"]))
        if "interfaces" in document:
            counted = (_counted_in(one, elapsed) for one in document["interfaces"])
            return Reading(at, elapsed, {one.ifindex: one for one in counted})
        if "happened" in document:
            return Happened(at, elapsed, dict(document["happened"]))
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, XdpChainError) as error:
        raise InvalidInput("a line of the recording can't be read", repr(error)) from None


def _counted_in(document: dict[str, Any], elapsed: float) -> Counted:
    sample = None
    if "verdict" in document:
        slots = {str(one["key"]): _counts_in(one["counters"]) for one in document["slots"]}
        sample = Sample(elapsed, slots, _counts_in(document["verdict"]))
    cost, netns = document.get("cost_ns"), document.get("netns")
    return Counted(
        str(document["name"]),
        int(document["ifindex"]),
        sample,
        str(document.get("note", "")),
        None if cost is None else int(cost),
        None if netns is None else str(netns),
    )


def _counts_out(counts: SlotCounts) -> dict[str, dict[str, int]]:
    return {
        name: {"packets": packets, "bytes": octets}
        for name, packets, octets in zip(_NAMES, counts.packets, counts.bytes, strict=True)
        if packets or octets
    }


def _counts_in(document: dict[str, dict[str, int]]) -> SlotCounts:
    packets, octets = [0] * CODES, [0] * CODES
    for i, name in enumerate(_NAMES):
        one = document.get(name)
        if one is not None:
            packets[i], octets[i] = int(one["packets"]), int(one["bytes"])
            if not (0 <= packets[i] < MOST and 0 <= octets[i] < MOST):
                raise ValueError(name)
    return SlotCounts(tuple(packets), tuple(octets))


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
