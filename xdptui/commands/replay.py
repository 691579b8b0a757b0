# SPDX-License-Identifier: Apache-2.0
"""``xdptui replay``: show a recording in the terminal program, or print the lines that ``watch --jsonl``
would have printed. Needs no kernel.
"""

from __future__ import annotations

import json
from argparse import Namespace
from contextlib import nullcontext
from importlib.resources import as_file, files

from xdpchain.observe.recording import Recording
from xdptui.outcome import Talk, UsageError, on_terminal, write

__all__ = ["DEMO", "run"]

DEMO = files("xdptui") / "demo" / "recording.jsonl"
"""A chain of three samples on a playground, with an edit and a burst of traffic."""


def run(options: Namespace) -> int:
    """Show a recording."""
    if (options.file is None) is not options.demo:
        raise UsageError("say what to replay", todo="`xdptui replay FILE`, or `xdptui replay --demo`")
    with as_file(DEMO) if options.demo else nullcontext(options.file) as file:
        recording = Recording(str(file))  # reads it all, so a file extracted from a zip may go
    if recording.skipped:
        lines = f"{recording.skipped} line{'s' * (recording.skipped != 1)}"
        Talk(options.json, False).warn(f"{recording.path}: {lines} can't be read and are skipped")
    if options.json:
        return _lines(recording)
    if not on_terminal():
        raise UsageError("a replay needs a terminal", todo="`xdptui replay FILE --json` prints its readings")
    from xdptui import app
    from xdptui.workers.replay import Replay

    return app.run(interface=options.interface, replay=Replay(recording))


def _lines(recording: Recording) -> int:
    from xdptui.render.watch_text import reading_document
    from xdptui.workers.replay import Replay

    replay = Replay(recording)
    for number in range(len(recording)):
        replay.player.step(number - replay.player.number)
        entries = []
        for running in recording.runnings(number):
            if running.hooks:
                index = running.interface.ifindex
                entries.append(reading_document(running, replay.meter.read(index), replay.meter.why(index)))
        document = {"at": recording.reading(number).at, "interfaces": entries}
        write(json.dumps(document, separators=(",", ":")))
    return 0
