# SPDX-License-Identifier: Apache-2.0
"""``xdptui record``: save what runs and its counters to a file, until interrupted."""

from __future__ import annotations

import json
import re
import threading
from argparse import Namespace

from xdpchain.errors import InvalidInput
from xdpchain.observe.discover import look
from xdpchain.observe.recording import DEFAULT_SIZE, LEAST_SIZE
from xdptui.commands import options as values
from xdptui.commands.ending import until_told
from xdptui.outcome import Talk, write
from xdptui.workers.recorder import Wanted, record

__all__ = ["run", "size"]

LEAST_INTERVAL = 0.05
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def run(options: Namespace) -> int:
    """Record until interrupted, or for the time requested."""
    wanted = Wanted(
        options.file,
        options.netns,
        tuple(options.interfaces),
        values.seconds(options.interval, "interval", LEAST_INTERVAL),
        None if options.duration is None else values.seconds(options.duration, "duration", 0.001),
        DEFAULT_SIZE if options.max_size is None else size(options.max_size),
        options.force,
        options.events,
    )
    for name in options.interfaces:
        look(name, options.netns)  # raises NotFound now: later it may come and go
    stop = threading.Event()
    with until_told(stop):
        done = record(wanted, stop, Talk(options.json).warn)
    if options.json:
        document = {"file": options.file, "readings": done.readings, "revisions": done.revisions}
        write(json.dumps(document))
    else:
        snapshots = f"{done.revisions} snapshot{'s' * (done.revisions != 1)} of what ran"
        write(f"{options.file}: {done.readings} readings, {snapshots} (xdptui replay shows it)")
    return 0


def size(text: str) -> int:
    """A size in bytes, with suffix k, M or G. Raises InvalidInput."""
    found = re.fullmatch(r"([0-9]{1,12})([kKmMgG]?)", text)
    number = int(found[1]) * UNITS[found[2].lower()] if found else 0
    if number < LEAST_SIZE:
        raise InvalidInput(
            f"{text!r} is not a file size", f"the minimum is {LEAST_SIZE >> 10}k", "Write 500k, 64M or 2G"
        )
    return number
