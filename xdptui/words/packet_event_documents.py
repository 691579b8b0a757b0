# SPDX-License-Identifier: Apache-2.0
"""Lost and redirected packets as a table and as a document. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from xdptui.words.packet_events import Happened, PacketEvents, Told, packet_event_lines

T = TypeVar("T", Happened, Told)

__all__ = ["packet_events_document", "packet_events_table", "read_packet_events"]


def packet_events_table(found: PacketEvents, width: int) -> str:
    """The tables and the last events."""
    lines = ("".join(text for text, _ in parts).rstrip() for parts in packet_event_lines(found, width))
    return "\n".join((f"in {found.seconds:.1f} s", *lines))


def packet_events_document(found: PacketEvents) -> dict[str, Any]:
    """A line of JSON; ``events`` are those since the previous line."""
    rows = dict.fromkeys((*found.lost, *found.sent))
    return {
        "at": found.at,
        "seconds": round(found.seconds, 6),
        "rows": [asdict(row) for row in rows],
        "events": [asdict(event) for event in (found.events[-found.fresh :] if found.fresh else ())],
        "untold": found.untold,
        "unplaced": found.unplaced,
        "missed": found.missed,
    }


def read_packet_events(documents: Sequence[Mapping[str, Any]]) -> PacketEvents:
    """Read what `packet_events_document` wrote, oldest first: the rows of the last document, the events of
    all.

    Skips what can't be read.
    """
    last = documents[-1] if documents else {}
    rows = _read(Told, last.get("rows"))
    events = [event for document in documents for event in _read(Happened, document.get("events"))]
    return PacketEvents(
        at=_number(last.get("at")),
        seconds=_number(last.get("seconds")),
        lost=tuple(sorted((row for row in rows if row.lost), key=lambda row: -row.lost)),
        sent=tuple(sorted((row for row in rows if row.sent), key=lambda row: -row.sent)),
        events=tuple(events),
        fresh=len(_read(Happened, last.get("events"))),
        untold=int(_number(last.get("untold"))),
        unplaced=int(_number(last.get("unplaced"))),
        missed=int(_number(last.get("missed"))),
    )


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and 0 <= value < 1e15 else 0


def _read(kind: type[T], documents: Any) -> list[T]:
    """The documents that have every member, each of its declared type."""
    if not isinstance(documents, list):
        return []
    found = []
    for document in documents:
        if not isinstance(document, dict):
            continue
        values = {member.name: document[member.name] for member in fields(kind) if member.name in document}
        if len(values) == len(fields(kind)) and all(
            map(_fits, (f.type for f in fields(kind)), values.values())
        ):
            found.append(kind(**values))
    return found


def _fits(declared: Any, value: Any) -> bool:
    """``declared`` is an annotation's text: ``str``, ``int | None``…"""
    words = str(declared).split(" | ")
    kinds: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "int": (int,),
        "float": (int, float),
        "None": (type(None),),
    }
    return not isinstance(value, bool) and any(isinstance(value, kinds[word]) for word in words)
