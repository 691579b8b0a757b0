# SPDX-License-Identifier: Apache-2.0
"""A change that is rolled back unless confirmed, and its outcome: frozen values <-> JSON. Pure."""

from __future__ import annotations

import json
from enum import IntEnum, StrEnum
from typing import TypeVar

from xdpchain.decoding import ID, Fields, fields
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .chain import MAX_SLOTS
from .interface import Mode
from .manifest import Author, author_in, author_out

__all__ = ["MOST_TOGETHER", "ConfirmOutcome", "Decision", "Outcome", "PendingChange", "PendingState", "Pins"]

FORMAT, MODES_FORMAT = 1, 2
"""Formats of records; versions that know only the first would misjudge a mode change."""
_Word = TypeVar("_Word", bound=StrEnum)

MOST_TOGETHER = 256
"""Most interfaces in one change."""


class PendingState(StrEnum):
    """The state of a pending change.

    ``making``: armed but not swapped in yet. ``unguarded``: its guardian was killed, so nothing rolls it back
    automatically. ``overtaken``: a third chain runs now, which the rollback will leave alone. ``settling``:
    decided, and the decision is being carried out.
    """

    MAKING = "making"
    PENDING = "armed"
    UNGUARDED = "unguarded"
    OVERTAKEN = "overtaken"
    SETTLING = "settling"


class Decision(IntEnum):
    """The decision on a pending change; the first one stands."""

    CONFIRM = 1
    ROLL_BACK = 2
    CALL_OFF = 3


class Outcome(StrEnum):
    """The outcome of a pending change."""

    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled-back"
    OVERTAKEN = "overtaken"
    GONE = "gone"
    FAILED = "failed"

    @property
    def text(self) -> str:
        return WORDS[self]


WORDS = {
    Outcome.CONFIRMED: "the change was confirmed",
    Outcome.ROLLED_BACK: "the change was rolled back",
    Outcome.OVERTAKEN: "another tool changed the chain meanwhile; its chain was left alone",
    Outcome.GONE: "the interface disappeared meanwhile",
    Outcome.FAILED: "the rollback failed",
}


@frozen
class Pins:
    """A chain's pins: whether it has a dispatcher directory (freplace), and the program IDs of its
    directories of program arrays.
    """

    dispatch: bool = False
    arrays: tuple[int, ...] = ()


@frozen
class PendingChange:
    """A change that is rolled back at ``deadline`` (`sys.boot_clock`) unless confirmed.

    ``old`` and ``new`` are the program IDs before and after it, None for an empty hook. ``inode`` is that of
    the network namespace of ``ifindex``; ``decision`` the ID of the map that takes the decision; ``guardian``
    the PID of the process that rolls back. ``old_pins`` are removed on confirmation, ``new_pins`` on
    rollback. ``old_mode`` is the previous mode if it changes (None: it stays). ``together``: all interfaces
    of the change, which share one decision.
    """

    ifname: str
    ifindex: int
    inode: int
    mode: Mode
    old: int | None
    new: int | None
    deadline: float
    seconds: float
    author: Author
    guardian: int
    decision: int
    old_pins: Pins = Pins()
    new_pins: Pins = Pins()
    state: PendingState = PendingState.PENDING
    old_mode: Mode | None = None
    together: tuple[str, ...] = ()

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes of its programs."""
        return (self.mode,) if self.old_mode is None else (self.mode, self.old_mode)

    def in_gap(self, hook: int | None) -> bool:
        """Whether neither program runs, since a mode change is not atomic."""
        return self.old_mode is not None and hook is None

    @property
    def unconfirmed(self) -> str:
        """Why it is rolled back at its deadline, as text."""
        return f"nobody confirmed within {self.seconds:g} s"

    def seconds_left(self, now: float) -> float:
        """Seconds until the rollback, at least 0; ``now`` is in seconds of `sys.boot_clock`."""
        return max(0.0, self.deadline - now)

    def state_on(self, hook: int | None, decision: Decision | None, *, guarded: bool) -> PendingState | None:
        """Its state if ``hook`` is the program ID on the interface's hook; None if it is obsolete (a
        leftover).
        """
        if hook == self.new:
            if decision in (Decision.CONFIRM, Decision.CALL_OFF):
                return PendingState.SETTLING
            return PendingState.PENDING if guarded else PendingState.UNGUARDED
        if self.in_gap(hook) and decision is None:
            return PendingState.MAKING if guarded else PendingState.UNGUARDED
        if not guarded:
            return None
        if hook != self.old:
            return PendingState.OVERTAKEN
        # The old chain runs: not swapped in yet, or already rolled back.
        return PendingState.MAKING if decision is None else PendingState.SETTLING

    def encode(self) -> bytes:
        document = {
            "format": FORMAT if self.old_mode is None else MODES_FORMAT,
            "ifname": self.ifname,
            "ifindex": self.ifindex,
            "inode": self.inode,
            "mode": self.mode.value,
            "old": self.old,
            "new": self.new,
            "deadline": self.deadline,
            "seconds": self.seconds,
            "author": author_out(self.author),
            "guardian": self.guardian,
            "decision": self.decision,
            "old_pins": [self.old_pins.dispatch, self.old_pins.arrays],
            "new_pins": [self.new_pins.dispatch, self.new_pins.arrays],
            "old_mode": self.old_mode and self.old_mode.value,
            "together": self.together,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> PendingChange:
        """Read what `encode` wrote, padding stripped. Raises InvalidInput."""
        document = _document(data, "the armed rollback")
        return cls(
            document.text("ifname"),
            document.integer("ifindex", most=ID),
            document.integer("inode"),
            _one_of(document, "mode", Mode),
            document.integer_or_none("old", most=ID),
            document.integer_or_none("new", most=ID),
            document.number("deadline"),
            document.number("seconds"),
            author_in(document.fields("author")),
            document.integer("guardian", most=ID),
            document.integer("decision", most=ID),
            _pins(document, "old_pins"),
            _pins(document, "new_pins"),
            old_mode=None
            if document.text_or_none("old_mode") is None
            else _one_of(document, "old_mode", Mode),
            together=document.texts("together", most=MOST_TOGETHER) if "together" in document else (),
        )


@frozen
class ConfirmOutcome:
    """The outcome of a pending change: ``runs`` is the program ID on the hook afterwards (None: empty),
    ``at`` seconds since 1970, ``author`` who made the change. ``detail``: further information, for a rollback
    its reason (nobody confirmed in time, or who rolled back). ``decision`` identifies the change:
    `PendingChange.decision` (0 from versions that did not write it).
    """

    outcome: Outcome
    at: float
    runs: int | None
    old: int | None
    new: int | None
    author: Author
    detail: str = ""
    decision: int = 0

    def ends(self, change: PendingChange) -> bool:
        """Whether it is the final outcome of exactly this change. A failed rollback is tried again."""
        return self.decision == change.decision and self.outcome is not Outcome.FAILED

    @property
    def text(self) -> str:
        words = f"{self.outcome.text} ({self.detail})" if self.detail else self.outcome.text
        return f"{words}; {f'program {self.runs} runs' if self.runs else 'no program runs'}"

    def encode(self) -> bytes:
        document = {
            "format": FORMAT,
            "outcome": self.outcome.value,
            "at": self.at,
            "runs": self.runs,
            "old": self.old,
            "new": self.new,
            "author": author_out(self.author),
            "detail": self.detail,
            "decision": self.decision,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> ConfirmOutcome:
        """Read what `encode` wrote, padding stripped. Raises InvalidInput."""
        document = _document(data, "the outcome of a rollback")
        return cls(
            _one_of(document, "outcome", Outcome),
            document.number("at"),
            document.integer_or_none("runs", most=ID),
            document.integer_or_none("old", most=ID),
            document.integer_or_none("new", most=ID),
            author_in(document.fields("author")),
            document.text("detail"),
            document.integer_or_none("decision", most=ID) or 0,
        )


def _document(data: bytes, what: str) -> Fields:
    document = fields(data.rstrip(b"\0"), what)
    version = document.integer("format")
    if version not in (FORMAT, MODES_FORMAT):
        raise InvalidInput(
            f"{what} can't be read",
            f"it has format {version}, this reads up to {MODES_FORMAT}",
            "Use the xdptui version that armed it, or a newer one",
        )
    return document


def _one_of(document: Fields, name: str, kind: type[_Word]) -> _Word:
    try:
        return kind(document.text(name))
    except ValueError:
        document.refuse(name, "has an unknown word")


def _pins(document: Fields, name: str) -> Pins:
    match document.value(name):
        case [bool(dispatch), [*arrays]] if len(arrays) <= MAX_SLOTS and all(map(_is_id, arrays)):
            pins = Pins(dispatch, tuple(arrays))
        case _:
            document.refuse(name, "are none")
    return pins


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= ID
