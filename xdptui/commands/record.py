# SPDX-License-Identifier: Apache-2.0
"""``xdptui record``: what runs and what it counts, into a file, until interrupted."""

from __future__ import annotations

import json
import platform
import re
import threading
import time
from argparse import Namespace
from contextlib import closing
from dataclasses import replace
from typing import Any, Self

from xdpchain.errors import InvalidInput, XdpChainError
from xdpchain.model.running import Running
from xdpchain.observe.discover import look, survey
from xdpchain.observe.events import Watch
from xdpchain.observe.recording import DEFAULT_SIZE, LEAST_SIZE, Counted, Happened, Header, Reading, Writer
from xdptui.commands import options as values
from xdptui.commands.ending import until_told
from xdptui.outcome import Talk, write
from xdptui.words.packet_event_documents import packet_events_document
from xdptui.workers.listening import Listening
from xdptui.workers.meter import Meter, open_missing

__all__ = ["run", "size"]

LEAST_INTERVAL = 0.05
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def run(options: Namespace) -> int:
    """Record until interrupted, or for as long as was asked."""
    interval = values.seconds(options.interval, "interval", LEAST_INTERVAL)
    duration = None if options.duration is None else values.seconds(options.duration, "duration", 0.001)
    most = DEFAULT_SIZE if options.max_size is None else size(options.max_size)
    for name in options.interfaces:
        look(name, options.netns)  # raises NotFound now: later it may come and go
    header = Header("", 0, time.time(), interval, platform.node(), options.netns, _version())
    stop = threading.Event()
    readings = revisions = 0
    with (
        until_told(stop),
        Writer(options.file, header, max_size=most, overwrite=options.force) as writer,
        closing(Meter()) as meter,
        Watch(options.netns) as watch,
        _Events(options) as events,
    ):
        began = due = time.monotonic()
        last: tuple[Running, ...] | None = None
        found = _found(options)
        while True:
            elapsed = time.monotonic() - began
            meter.sync(found, open_missing(found, meter.known))
            steady = tuple(_steady(one) for one in found)
            if steady != last:
                writer.running(time.time(), elapsed, found)
                last, revisions = steady, revisions + 1
                events.follow(found)
            writer.reading(_reading(found, meter, elapsed))
            if (told := events.news()) is not None:
                writer.happened(Happened(time.time(), elapsed, told))
            readings += 1
            if stop.is_set() or (duration is not None and elapsed + interval > duration):
                break
            due = max(due + interval, time.monotonic())  # a slow disk skips readings, it doesn't pile up
            again = False
            while (left := due - time.monotonic()) > 0 and not stop.is_set():
                again |= watch.wait(min(left, 0.5))
            if again:
                found = _found(options)
    if options.json:
        write(json.dumps({"file": options.file, "readings": readings, "revisions": revisions}))
    else:
        write(f"{options.file}: {readings} readings, {revisions} times what ran (xdptui replay shows it)")
    return 0


class _Events:
    """What becomes of packets after their program, where that can be heard; otherwise nothing."""

    def __init__(self, options: Namespace) -> None:
        self._names = frozenset(options.interfaces)
        self._rows: Any = []
        self._listening: Listening | None = None
        if options.events:
            try:
                self._listening = Listening(options.netns)
            except XdpChainError as error:
                Talk(options.json).warn(f"events are not recorded: {error}")

    def follow(self, found: tuple[Running, ...]) -> None:
        if self._listening is not None:
            self._listening.follow(found)

    def news(self) -> dict[str, Any] | None:
        """A document, if something happened since the last one."""
        if self._listening is None:
            return None
        told = packet_events_document(self._listening.read())
        for what in ("rows", "events"):
            told[what] = [one for one in told[what] if self._meant(one)]
        rows = [{name: value for name, value in row.items() if "rate" not in name} for row in told["rows"]]
        if rows == self._rows and not told["events"]:
            return None
        self._rows = rows
        return told

    def _meant(self, one: dict[str, Any]) -> bool:
        return not self._names or bool(self._names & {one["interface"], one["target"]})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._listening is not None:
            self._listening.close()


def size(text: str) -> int:
    """Bytes, with k, M or G. Raises InvalidInput."""
    found = re.fullmatch(r"([0-9]{1,12})([kKmMgG]?)", text)
    number = int(found[1]) * UNITS[found[2].lower()] if found else 0
    if number < LEAST_SIZE:
        raise InvalidInput(
            f"{text!r} is no size of a file", f"it takes {LEAST_SIZE >> 10}k or more", "Write 500k, 64M or 2G"
        )
    return number


def _found(options: Namespace) -> tuple[Running, ...]:
    found = survey(options.netns)
    if not options.interfaces:
        return found
    return tuple(one for one in found if one.interface.name in options.interfaces)


def _steady(running: Running) -> Running:
    """Without what changes all the time, and what is not recorded."""
    device = replace(running.device, rx=(0, 0), tx=(0, 0))
    return replace(running, device=device, armed=None, settled=None, following=None)


def _reading(found: tuple[Running, ...], meter: Meter, elapsed: float) -> Reading:
    counted = {}
    for running in found:
        if not running.hooks:
            continue
        where = running.interface
        meter.read(where.ifindex)
        sample = meter.sample(where.ifindex)
        counted[where.ifindex] = Counted(
            where.name,
            where.ifindex,
            sample,
            "" if sample else meter.why(where.ifindex),
            meter.cost(where.ifindex),
            where.netns,
        )
    return Reading(time.time(), elapsed, counted)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"xdptui {version('xdptui')}"
    except PackageNotFoundError:  # run from a source tree
        return "xdptui"
