# SPDX-License-Identifier: Apache-2.0
"""``xdptui watch``: live counters, as a table refreshed in place, or as JSON lines."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing

from xdpchain.errors import NotFound
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.kept_survey import KeptSurvey
from xdptui.commands import options as values
from xdptui.commands.in_place import Lines, Screen, in_place
from xdptui.render.watch_text import (
    behind_documents,
    behind_rows,
    cpu_documents,
    cpu_rows,
    queue_documents,
    queue_rows,
    reading_document,
    reading_table,
)
from xdptui.workers.behind_meter import BehindMeter
from xdptui.workers.meter import Meter, open_missing
from xdptui.workers.queue_meter import QueueMeter
from xdptui.workers.readings import PAUSE

__all__ = ["run"]

LEAST_INTERVAL = 0.05


def run(options: Namespace) -> int:
    """Show readings until interrupted, or as many as requested."""
    interval = values.seconds(options.interval, "interval", LEAST_INTERVAL)
    count = None if options.count is None else values.amount(options.count, "count")
    screen = Lines() if options.json or not in_place() else Screen()
    queues = QueueMeter() if options.per_queue else None
    with closing(Meter()) as meter, BehindMeter() as behind:
        for n, runnings in enumerate(_looks(options, interval), 1):
            meter.sync(runnings, open_missing(runnings, meter.known, sites=False))
            behind.leave_all_but(runnings)
            if queues is not None:
                queues.leave_all_but(runnings)
            shown = _line if options.json else _table
            screen.show(shown(runnings, meter, behind, cpus=options.per_cpu, queues=queues))
            if n == count:
                break
    return 0


def _looks(options: Namespace, interval: float) -> Iterator[tuple[Running, ...]]:
    """What runs, whenever a reading is due. Looks again only if something may have changed."""
    with KeptSurvey(options.netns) as kept:
        found = _found(options, kept)
        if options.where and not found:
            raise NotFound(
                f"nothing to watch has a slot with {', '.join(options.where)}",
                todo="`xdptui status --json` lists the labels of all slots",
            )
        due = time.monotonic()
        while True:
            yield found
            due = max(due + interval, time.monotonic())  # a slow reader skips readings; they don't pile up
            again = False
            while (left := due - time.monotonic()) > 0:
                if kept.wait(left):
                    again = True
                    time.sleep(min(left, PAUSE))
            if again:
                found = _found(options, kept)


def _found(options: Namespace, kept: KeptSurvey) -> tuple[Running, ...]:
    if options.interface is not None:
        found: tuple[Running, ...] = (look(options.interface, options.netns),)
    else:
        found = tuple(running for running in kept.look() if running.hooks)
    return values.with_labels(found, options.where)


def _line(
    runnings: Sequence[Running], meter: Meter, behind: BehindMeter, *, cpus: bool, queues: QueueMeter | None
) -> str:
    entries = []
    for running in runnings:
        index = running.interface.ifindex
        entry = reading_document(running, meter.read(index), meter.why(index))
        entry["behind"] = behind_documents(behind.read(running))
        if cpus:
            entry |= {"cpus": cpu_documents(meter.cpus(index))}
        if queues is not None:
            entry |= queue_documents(queues.read(running))
        entries.append(entry)
    return json.dumps({"at": time.time(), "interfaces": entries}, separators=(",", ":"))


def _table(
    runnings: Sequence[Running], meter: Meter, behind: BehindMeter, *, cpus: bool, queues: QueueMeter | None
) -> str:
    parts = []
    for running in runnings:
        index = running.interface.ifindex
        parts.append(reading_table(running, meter.read(index), meter.why(index)))
        parts += behind_rows(behind.read(running))
        parts += cpu_rows(meter.cpus(index)) if cpus else ()
        parts += queue_rows(queues.read(running)) if queues is not None else ()
    return "\n".join(parts) or "no XDP program runs on an interface to watch"
