# SPDX-License-Identifier: Apache-2.0
"""The lines of a recording <-> values. Pure.

The first line of a file is its header. Every other line has ``at`` (seconds since 1970), ``elapsed`` (seconds
since the start, monotonic), and a key for its kind: ``running`` (what runs, written when it changes),
``interfaces`` (counters in the format of ``watch --jsonl``, without actions that have no packets) or
``happened`` (what happened to packets after their program, in the format of ``events --json``). Readers skip
unknown kinds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from xdpchain.advice import Do, advise
from xdpchain.decoding import ID, Fields, fields
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.chain import MAX_SLOTS
from xdpchain.model.counts import CODES, Sample, SlotCounts
from xdpchain.model.running import Running
from xdpchain.observe.site_shares import SlotReasons

from .sites import reasons_in, reasons_out, site_counts_in, site_counts_out
from .states import running_in, running_out

__all__ = [
    "FORMAT",
    "LONGEST",
    "Counted",
    "Happened",
    "Header",
    "RecordedReading",
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
WHAT: Final = "a line of the recording"
LONGEST: Final = 16 << 20
"""Longest line in bytes."""
MOST_INTERFACES, MOST_SLOTS = 1 << 16, 32
"""Most interfaces in a line, and slots of an interface: a foreign program has 1, a chain up to 10."""
_NAMES: Final = (*(action.xdp_name for action in ALL_ACTIONS), "other")


@frozen
class Header:
    """A file's header. ``recording`` is the same in all parts of a recording, ``part`` numbers them;
    ``started``: seconds since 1970; ``interval``: seconds between readings.
    """

    recording: str
    part: int
    started: float
    interval: float
    host: str = ""
    netns: str | None = None
    made_by: str = ""


@frozen
class Counted:
    """An interface in a reading: ``sample`` is None if nothing was counted (``note`` says why). ``cost``: ns
    that counting added per packet, if done from outside.
    """

    name: str
    ifindex: int
    sample: Sample | None
    note: str = ""
    cost: int | None = None
    netns: str | None = None


@frozen
class RecordedReading:
    """The counters at one time, by ifindex. The samples' clock is ``elapsed``."""

    at: float
    elapsed: float
    counted: Mapping[int, Counted] = field(default_factory=dict)


@frozen
class Revision:
    """What ran from this time on."""

    at: float
    elapsed: float
    runnings: tuple[Running, ...] = ()
    reasons: Mapping[int, tuple[SlotReasons, ...]] = field(default_factory=dict)
    """By ifindex."""


@frozen
class Happened:
    """What happened to packets: ``told`` has everything since the recording started, and the events since the
    previous such line.
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
    """Read the header. Raises InvalidInput if it is not a recording or has a newer format."""
    try:
        document = fields(line, where)
        number = document.integer(MARK)
        if number == FORMAT:
            return Header(
                document.text("recording"),
                document.integer("part"),
                document.number("started"),
                document.number("interval"),
                document.text("host", default=""),
                document.text_or_none("netns"),
                document.text("made_by", default=""),
            )
    except InvalidInput:
        raise InvalidInput(
            f"{where} is not a recording", "it does not start like one", advise(Do.RECORD)
        ) from None
    raise InvalidInput(
        f"{where} can't be replayed",
        f"it has format {number}; this version reads {FORMAT}",
        "Use the xdptui version that made it, or a newer one",
    )


def revision_out(revision: Revision) -> bytes:
    document: dict[str, Any] = {"at": revision.at, "elapsed": revision.elapsed}
    document["running"] = [running_out(running) for running in revision.runnings]
    document["sites"] = {str(ifindex): reasons_out(some) for ifindex, some in revision.reasons.items()}
    return _line(document)


def reading_out(reading: RecordedReading, names: Mapping[str, str] | None = None) -> bytes:
    """Encode a reading. ``names``: slot names by key, for people and scripts that read the file."""
    interfaces = []
    for counted in reading.counted.values():
        entry: dict[str, Any] = {"name": counted.name, "ifindex": counted.ifindex, "netns": counted.netns}
        if counted.sample is not None:
            entry["slots"] = [
                {
                    "key": key,
                    "name": (names or {}).get(key, ""),
                    "counters": _counts_out(counts),
                    "sites": site_counts_out(counted.sample.sites.get(key, {})),
                }
                for key, counts in counted.sample.slots.items()
            ]
            if counted.sample.verdict is not None:
                entry["verdict"] = _counts_out(counted.sample.verdict)
        if counted.note:
            entry["note"] = counted.note
        if counted.cost is not None:
            entry["cost_ns"] = counted.cost
        interfaces.append(entry)
    return _line({"at": reading.at, "elapsed": reading.elapsed, "interfaces": interfaces})


def happened_out(event: Happened) -> bytes:
    return _line({"at": event.at, "elapsed": event.elapsed, "happened": dict(event.told)})


def line_in(line: bytes) -> RecordedReading | Revision | Happened | None:
    """Decode a line after the header; None for an unknown kind. Raises InvalidInput if it is damaged."""
    document = fields(line, WHAT, most=LONGEST)
    at, elapsed = document.number("at", most=1e12), document.number("elapsed", most=1e12)
    if elapsed < 0:
        document.refuse("elapsed", "is less than 0")
    if "running" in document:
        states = document.list("running", most=MOST_INTERFACES)
        return Revision(at, elapsed, tuple(map(running_in, states)), _reasons_in(document))
    if "interfaces" in document:
        found = document.objects("interfaces", most=MOST_INTERFACES)
        counted = [_counted_in(interface, elapsed) for interface in found]
        return RecordedReading(at, elapsed, {interface.ifindex: interface for interface in counted})
    if "happened" in document:
        return Happened(at, elapsed, dict(document.mapping("happened")))
    return None


def _reasons_in(document: Fields) -> dict[int, tuple[SlotReasons, ...]]:
    """Verdict sites by ifindex; empty if the recording has none."""
    sites = document.fields_or_none("sites")
    names = tuple(sites or ())
    if sites is None or not all(name.isascii() and name.isdecimal() and len(name) < 10 for name in names):
        return {}
    return {int(name): reasons_in(sites.objects(name, most=MAX_SLOTS)) for name in names}


def _counted_in(document: Fields, elapsed: float) -> Counted:
    sample = None
    if "slots" in document:
        slots = {
            slot.text("key"): _counts_in(slot.fields("counters"))
            for slot in document.objects("slots", most=MOST_SLOTS)
        }
        sites = {
            slot.text("key"): counts
            for slot in document.objects("slots", most=MOST_SLOTS)
            if (counts := site_counts_in(slot, "sites"))
        }
        verdict = document.fields_or_none("verdict") if "verdict" in document else None
        sample = Sample(elapsed, slots, None if verdict is None else _counts_in(verdict), sites)
    return Counted(
        document.text("name"),
        document.integer("ifindex", most=ID),
        sample,
        document.text("note", default=""),
        document.integer_or_none("cost_ns"),
        document.text_or_none("netns"),
    )


def _counts_out(counts: SlotCounts) -> dict[str, dict[str, int]]:
    return {
        name: {"packets": packets, "bytes": octets}
        for name, packets, octets in zip(_NAMES, counts.packets, counts.bytes, strict=True)
        if packets or octets
    }


def _counts_in(document: Fields) -> SlotCounts:
    packets, octets = [0] * CODES, [0] * CODES
    for i, name in enumerate(_NAMES):
        code = document.fields_or_none(name)
        if code is not None:
            packets[i], octets[i] = code.integer("packets"), code.integer("bytes")
    return SlotCounts(tuple(packets), tuple(octets))


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
