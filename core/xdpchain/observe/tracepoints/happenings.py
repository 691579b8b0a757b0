# SPDX-License-Identifier: Apache-2.0
"""XDP tracepoint reports as values, decoded from what bpf/tracepoints.bpf.c writes. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import IntEnum
from typing import NamedTuple

from xdpchain.frozen import frozen

__all__ = [
    "EVENT_SIZE",
    "PLACE_SIZE",
    "STATE_SIZE",
    "TALLY_SIZE",
    "Event",
    "LossPlace",
    "Row",
    "Sample",
    "Tracepoint",
    "TracepointTally",
    "decode_event",
    "decode_place",
    "decode_states",
    "decode_tallies",
]


class Tracepoint(IntEnum):
    """The reporting tracepoint."""

    EXCEPTION = 1
    REDIRECT_ERR = 2
    BULK_TX = 3
    DEVMAP_XMIT = 4
    CPUMAP_ENQUEUE = 5
    CPUMAP_KTHREAD = 6
    CPUMAP_PROGRAM = 7
    """The same tracepoint, for the program in the cpumap."""

    @property
    def tracepoint(self) -> str:
        """Its name in the kernel."""
        named = Tracepoint.CPUMAP_KTHREAD if self is Tracepoint.CPUMAP_PROGRAM else self
        return f"xdp_{named.name.lower()}"


class LossPlace(NamedTuple):
    """Where and why it happened: a row of the counters.

    ``code`` is the action of an exception or of a cpumap's program, otherwise an errno, negative as in the
    kernel, or 0. ``netns`` is the inode number of the network namespace of ``ifindex``, ``target_netns`` that
    of ``target``, the interface that packets were redirected to. ``map`` and ``entry``: the map entry with
    the target (cpumap: the CPU). 0: not reported.
    """

    kind: Tracepoint
    code: int = 0
    prog: int = 0
    netns: int = 0
    ifindex: int = 0
    map: int = 0
    map_type: int = 0
    entry: int = 0
    target_netns: int = 0
    target: int = 0

    @property
    def errno(self) -> int:
        """The error number, 0 if there was none."""
        return -self.code if self.kind is not Tracepoint.EXCEPTION and self.code < 0 else 0


class TracepointTally(NamedTuple):
    """How often the tracepoint fired, and its packets: ``sent`` (to a CPU: passed on) and ``lost``."""

    times: int = 0
    sent: int = 0
    lost: int = 0

    def since(self, earlier: TracepointTally) -> TracepointTally:
        """The difference from ``earlier``."""
        return TracepointTally(self.times - earlier.times, self.sent - earlier.sent, self.lost - earlier.lost)

    def plus(self, other: TracepointTally) -> TracepointTally:
        """The sum of both."""
        return TracepointTally(self.times + other.times, self.sent + other.sent, self.lost + other.lost)


@frozen
class Row:
    """A place and what happened there, with its interfaces' names at the time ("" if not reported)."""

    place: LossPlace
    tally: TracepointTally
    device: str = ""
    target: str = ""


@frozen
class Event:
    """A failure, ``at`` seconds on the monotonic clock."""

    at: float
    row: Row


@frozen
class Sample:
    """Everything since the listener was opened; ``at`` is in seconds on the monotonic clock.

    ``events`` are new since the last reading; ``untold`` counts those that came too fast to be reported
    individually. ``unplaced`` counts packets without a row, by kind, and ``missed`` calls that the kernel
    skipped: if either is not empty, the rows are incomplete.
    """

    at: float
    rows: tuple[Row, ...] = ()
    events: tuple[Event, ...] = ()
    untold: int = 0
    unplaced: Mapping[Tracepoint, int] = field(default_factory=dict)
    missed: int = 0

    def of(self, *kinds: Tracepoint) -> tuple[Row, ...]:
        """The rows of these kinds."""
        return tuple(row for row in self.rows if row.place.kind in kinds)

    @property
    def lost(self) -> int:
        """Packets lost. Drivers may also report a failed redirect as an exception: those count twice."""
        return sum(row.tally.lost for row in self.rows)

    def about(self, netns: int, ifindexes: Iterable[int] | None = None, maps: Iterable[int] = ()) -> Sample:
        """The part about these interfaces of a namespace (None: all of them), where packets came in or were
        sent to; or about one of these cpumaps, which are reported without an interface.
        """
        wanted, known = None if ifindexes is None else frozenset(ifindexes), frozenset(maps)

        def concerns(row: Row) -> bool:
            place = row.place
            if not place.ifindex:
                return place.map in known
            ends = ((place.netns, place.ifindex), (place.target_netns, place.target))
            return any(ns == netns and index and (wanted is None or index in wanted) for ns, index in ends)

        return Sample(
            self.at,
            tuple(row for row in self.rows if concerns(row)),
            tuple(event for event in self.events if concerns(event.row)),
            self.untold,
            self.unplaced,
            self.missed,
        )


NAME = 16
_PLACE = struct.Struct("=IiIIiIIIIi")
_TALLY = struct.Struct(f"=QQQ{NAME}s{NAME}s")
_EVENT = struct.Struct(f"=Q{_PLACE.size}s{_TALLY.size}s")
_STATE = struct.Struct(f"=QQQ{len(Tracepoint) + 1}Q")
PLACE_SIZE, TALLY_SIZE, EVENT_SIZE, STATE_SIZE = _PLACE.size, _TALLY.size, _EVENT.size, _STATE.size


def decode_place(raw: bytes) -> LossPlace:
    """``struct place``."""
    kind, *rest = _PLACE.unpack(raw)
    return LossPlace(Tracepoint(kind), *rest)


def decode_tallies(place: LossPlace, raw: bytes) -> Row:
    """The row of a place: its ``struct tally`` summed over CPUs. Rows without packets have no names."""
    total, device, target = TracepointTally(), "", ""
    for times, sent, lost, here, there in _TALLY.iter_unpack(raw):
        total = total.plus(TracepointTally(times, sent, lost))
        device, target = device or _text(here), target or _text(there)
    return Row(place, total, device, target)


def decode_event(raw: bytes) -> Event:
    """``struct event``."""
    at, place, tally = _EVENT.unpack(raw[:EVENT_SIZE])
    return Event(at / 1e9, decode_tallies(decode_place(place), tally))


def decode_states(raw: bytes) -> tuple[int, dict[Tracepoint, int]]:
    """Events untold, and packets without a row by kind: ``struct cpu_state`` of all CPUs, summed."""
    untold, unplaced = 0, dict.fromkeys(Tracepoint, 0)
    for _, _, more, *by_kind in _STATE.iter_unpack(raw):
        untold += more
        for kind in Tracepoint:
            unplaced[kind] += by_kind[kind]
    return untold, {kind: packets for kind, packets in unplaced.items() if packets}


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode(errors="replace")
