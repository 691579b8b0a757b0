# SPDX-License-Identifier: Apache-2.0
"""Journal entries <-> JSON, and the history that they describe. Pure.

A state is a chain with its program ID and boot: IDs are unique within a boot. Each entry has the states
before and after. If an entry's state before differs from the previous entry's state after, another tool
changed the chain in between.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from xdpchain.change.moment import Moment
from xdpchain.decoding import ID, Fields, fields
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.model.manifest import Author, Manifest, author_in, author_out, chain_in

__all__ = [
    "MOST_BYTES",
    "EntryKind",
    "Heading",
    "JournalEntry",
    "past",
    "past_with_changes",
    "undone_by",
]

WHAT = "a journal entry"
FORMAT = 1
MOST_BYTES, MOST_CHANGES = 1 << 20, 1000
"""Limits of an entry."""


class EntryKind(StrEnum):
    """The kind of event."""

    CHANGE = "change"
    UNDO = "undo"
    CONFIRM = "confirm"
    ROLLBACK = "rollback"
    OVERTAKEN = "overtaken"


@frozen
class JournalEntry:
    """A change: who made it, its description, and the states before and after.

    ``seconds``: its confirmation time. ``restores``: the state that an undo returned to. ``device``: the
    interface at that time, as its namespace's cookie and its ifindex (None: unknown). ``number`` counts an
    interface's entries from 1; 0 until stored.
    """

    kind: EntryKind
    author: Author
    before: Moment
    after: Moment
    changes: tuple[str, ...] = ()
    seconds: float | None = None
    restores: Moment | None = None
    number: int = 0
    device: tuple[int, int] | None = None

    def encode(self) -> bytes:
        document = {
            "format": FORMAT,
            "kind": self.kind.value,
            "author": author_out(self.author),
            "before": _moment_out(self.before, self.author),
            "after": _moment_out(self.after, self.author),
            "changes": self.changes,
            "seconds": self.seconds,
            "device": self.device and {"netns": self.device[0], "ifindex": self.device[1]},
            "restores": self.restores and {"program": self.restores.program, "boot": self.restores.boot},
        }
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, number: int) -> JournalEntry:
        """Read what `encode` wrote. Raises InvalidInput."""
        document = _document(data)
        restores = document.fields_or_none("restores")
        try:
            kind = EntryKind(document.text("kind"))
        except ValueError as error:
            raise InvalidInput(f"{WHAT} can't be read", str(error)) from None
        return cls(
            kind,
            author_in(document.fields("author")),
            _moment_in(document.fields("before")),
            _moment_in(document.fields("after")),
            document.texts("changes", most=MOST_CHANGES),
            document.number_or_none("seconds"),
            None if restores is None else _moment_in(restores),
            number,
            _device_in(document),
        )


@frozen
class Heading:
    """What identifies an entry's interface: the boot, the device as in `JournalEntry`, and the program IDs of
    the chains before and after.
    """

    boot: str
    device: tuple[int, int] | None
    programs: tuple[int | None, ...]

    @classmethod
    def of(cls, entry: JournalEntry) -> Heading:
        """The heading that `decode` finds in an entry."""
        moments = entry.before, entry.after
        programs = (moment.program for moment in moments if moment.chain is not None)
        return cls(entry.after.boot, entry.device, tuple(programs))

    @classmethod
    def decode(cls, data: bytes) -> Heading:
        """Read from what `JournalEntry.encode` wrote, without its chains. Raises InvalidInput."""
        document = _document(data)
        moments = document.fields("before"), document.fields("after")
        programs = (moment.integer_or_none("program", most=ID) for moment in moments if moment.value("chain"))
        return cls(moments[1].text("boot"), _device_in(document), tuple(programs))


def past(entries: Sequence[JournalEntry]) -> tuple[Moment, ...]:
    """The states that led to the last one, oldest first, without those that were undone or rolled back, or
    must have been because the state before ran again.
    """
    return tuple(state for state, _ in past_with_changes(entries))


def past_with_changes(entries: Sequence[JournalEntry]) -> tuple[tuple[Moment, JournalEntry | None], ...]:
    """As `past`, each with the change that first led there, even if an undo returned to it (None: not made
    here).
    """
    states: list[tuple[Moment, JournalEntry | None]] = []
    waiting = False
    for entry in entries:
        if not states or not states[-1][0].same(entry.before):
            # A program that runs again is the same state; an empty hook may be a different one.
            same = [i for i, (state, _) in enumerate(states) if state.same(entry.before)]
            made = None
            if same and (entry.before.program is not None or waiting):
                made = states[same[-1]][1]
                del states[same[-1] :]
            states.append((entry.before, made))
        waiting = entry.seconds is not None
        if entry.kind is EntryKind.CONFIRM or (entry.after.program and entry.before.same(entry.after)):
            continue  # the chain is unchanged: only map contents changed
        change: JournalEntry | None = entry
        back = entry.restores or (entry.after if entry.kind is EntryKind.ROLLBACK else None)
        if back is not None:
            earlier = [i for i, (state, _) in enumerate(states[:-1]) if state.same(back)]
            if earlier:
                change = states[earlier[-1]][1]
                del states[earlier[-1] :]
        states.append((entry.after, change))
    return tuple(states)


def undone_by(entries: Sequence[JournalEntry], undo: JournalEntry) -> tuple[JournalEntry, ...]:
    """The changes that an undo took back, oldest first; () if ``undo`` is none, or that is not known.
    ``entries`` are an interface's, oldest first.
    """
    back = undo.restores
    if back is None:
        return ()
    led = past_with_changes([entry for entry in entries if entry.number < undo.number])
    places = [i for i, (state, _) in enumerate(led) if state.same(back)]
    return tuple(entry for _, entry in led[places[-1] + 1 :] if entry is not None) if places else ()


def _document(data: bytes) -> Fields:
    document = fields(data, WHAT, most=MOST_BYTES)
    if document.integer("format") != FORMAT:
        raise InvalidInput(f"{WHAT} can't be read", f"format {document.integer('format')}")
    return document


def _device_in(document: Fields) -> tuple[int, int] | None:
    device = document.fields_or_none("device")
    return None if device is None else (device.integer("netns"), device.integer("ifindex", most=ID))


def _moment_out(moment: Moment, author: Author) -> dict[str, Any]:
    chain = moment.chain
    manifest = None if chain is None else Manifest(chain, author).document()
    return {
        "program": moment.program,
        "boot": moment.boot,
        "chain": manifest,
        "counters": None if chain is None else chain.counters,
        "version": None if chain is None else chain.dispatcher_version,
    }


def _moment_in(document: Fields) -> Moment:
    chain, carried = None, document.fields_or_none("chain")
    if carried is not None:
        chain = replace(
            chain_in(carried, counters=document.flag("counters")),
            dispatcher_version=document.integer_or_none("version", most=ID),
        )
    return Moment(document.integer_or_none("program", most=ID), document.text("boot"), chain)
