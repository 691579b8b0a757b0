# SPDX-License-Identifier: Apache-2.0
"""Record what runs and its counters to a file: the loop behind ``xdptui record`` and the record key."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, Self

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.running import Identity, Running
from xdpchain.observe.kept_survey import KeptSurvey
from xdpchain.observe.recording import DEFAULT_SIZE, Counted, Happened, Header, RecordedReading, Writer
from xdpchain.observe.running_sites import reasons_of
from xdpchain.observe.site_shares import SlotReasons
from xdptui.version import version
from xdptui.words.advice import told
from xdptui.words.packet_event_documents import packet_events_document
from xdptui.workers.listening import Listening
from xdptui.workers.meter import Meter, open_missing
from xdptui.workers.readings import PAUSE

__all__ = ["Recorded", "Wanted", "record"]


@frozen
class Wanted:
    """What to record: ``interval`` and ``duration`` (None: until stopped) are in seconds, ``max_size`` in
    bytes; no ``interfaces``: all of the namespace. ``events``: also what happens to packets after their
    program.
    """

    file: str
    netns: str | None = None
    interfaces: tuple[str, ...] = ()
    interval: float = 1.0
    duration: float | None = None
    max_size: int = DEFAULT_SIZE
    overwrite: bool = False
    events: bool = True


@frozen
class Recorded:
    """How much was written: readings, and how often what runs changed."""

    readings: int
    revisions: int


def record(
    wanted: Wanted, stop: threading.Event, warn: Callable[[str], object] = lambda text: None
) -> Recorded:
    """Record until ``stop`` is set or the duration is over. Raises what the engine and the writer raise."""
    header = Header("", 0, time.time(), wanted.interval, platform.node(), wanted.netns, f"xdptui {version()}")
    readings = revisions = 0
    with (
        Writer(wanted.file, header, max_size=wanted.max_size, overwrite=wanted.overwrite) as writer,
        closing(Meter()) as meter,
        KeptSurvey(wanted.netns) as kept,
        _Events(wanted, warn) as events,
    ):
        began = due = time.monotonic()
        seen: tuple[Running, ...] | None = None
        steady: list[Running] = []
        last: list[Running] | None = None
        reasons: dict[Identity, tuple[SlotReasons, ...]] = {}
        known: dict[int, tuple[Running, Running]] = {}  # by identity: the same if not read again
        found = _found(wanted, kept)
        while True:
            elapsed = time.monotonic() - began
            meter.sync(found, open_missing(found, meter.known))
            if found is not seen:
                known = {
                    id(running): known.get(id(running)) or (running, _steady(running)) for running in found
                }
                seen, steady = found, [one for _, one in known.values()]
            if steady != last:
                reasons = {
                    running.identity: reasons.get(running.identity) or _reasons(running)
                    for running in found
                    if running.hooks
                }
                sites = {identity[0]: some for identity, some in reasons.items()}
                writer.running(time.time(), elapsed, found, sites)
                last, revisions = steady, revisions + 1
                events.follow(found)
            writer.reading(_reading(found, meter, elapsed))
            if (told := events.news()) is not None:
                writer.happened(Happened(time.time(), elapsed, told))
            readings += 1
            over = wanted.duration is not None and elapsed + wanted.interval > wanted.duration
            if stop.is_set() or over:
                return Recorded(readings, revisions)
            due = max(
                due + wanted.interval, time.monotonic()
            )  # a slow disk skips readings; they don't pile up
            again = False
            while (left := due - time.monotonic()) > 0 and not stop.is_set():
                if kept.wait(min(left, 0.5)):
                    again = True
                    stop.wait(min(left, PAUSE))
            if again:
                found = _found(wanted, kept)


class _Events:
    """What happens to packets after their program, if that can be listened to; otherwise nothing."""

    def __init__(self, wanted: Wanted, warn: Callable[[str], object]) -> None:
        self._names = frozenset(wanted.interfaces)
        self._rows: Any = []
        self._listening: Listening | None = None
        if wanted.events:
            try:
                self._listening = Listening(wanted.netns)
            except XdpChainError as error:
                warn(f"events are not recorded: {told(error)}")

    def follow(self, found: tuple[Running, ...]) -> None:
        if self._listening is not None:
            self._listening.follow(found)

    def news(self) -> dict[str, Any] | None:
        """A document if something happened since the last one."""
        if self._listening is None:
            return None
        told = packet_events_document(self._listening.read())
        for what in ("rows", "events"):
            told[what] = [event for event in told[what] if self._meant(event)]
        rows = [{name: value for name, value in row.items() if "rate" not in name} for row in told["rows"]]
        if rows == self._rows and not told["events"]:
            return None
        self._rows = rows
        return told

    def _meant(self, event: dict[str, Any]) -> bool:
        return not self._names or bool(self._names & {event["interface"], event["target"]})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._listening is not None:
            self._listening.close()


def _found(wanted: Wanted, kept: KeptSurvey) -> tuple[Running, ...]:
    found = kept.look()
    if not wanted.interfaces:
        return found
    return tuple(running for running in found if running.interface.name in wanted.interfaces)


def _reasons(running: Running) -> tuple[SlotReasons, ...]:
    try:
        return reasons_of(running)
    except XdpChainError:
        return ()  # it went away meanwhile, or can't be followed


def _steady(running: Running) -> Running:
    """Without what changes constantly and is not recorded."""
    device = replace(running.device, rx=(0, 0), tx=(0, 0))
    return replace(running, device=device, pending=None, settled=None, following=None)


def _reading(found: tuple[Running, ...], meter: Meter, elapsed: float) -> RecordedReading:
    counted = {}
    for running in found:
        if not running.hooks:
            continue
        where = running.interface
        sample = meter.counts(where.ifindex)
        counted[where.ifindex] = Counted(
            where.name,
            where.ifindex,
            sample,
            "" if sample else meter.why(where.ifindex),
            meter.cost(where.ifindex),
            where.netns,
        )
    return RecordedReading(time.time(), elapsed, counted)
