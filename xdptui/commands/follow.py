# SPDX-License-Identifier: Apache-2.0
"""``xdptui follow``: packets on their way through the chain."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from typing import BinaryIO

from xdpchain import files
from xdpchain.errors import InvalidInput, RaceLost
from xdpchain.follow import DEFAULT_RATE, SIFTED_RATE, Follower, follow
from xdpchain.follow.followed import Followed
from xdpchain.follow.pcapng import file_header, packet_blocks
from xdpchain.model.actions import ActionSet
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.recording.writer import older_part
from xdpchain.trial.slot_paths import paths_of_packet
from xdptui.commands import options as values
from xdptui.commands.ending import handling
from xdptui.commands.record import size
from xdptui.outcome import Talk, write
from xdptui.render.follow_text import WIDTH, packet_document, packet_text
from xdptui.words.path_words import Paths, arrivals

__all__ = ["run"]

STANDARD_OUTPUT = "-"
TIMED_OUT = "time is up (--timeout)"


def run(options: Namespace) -> int:
    """Show packets until interrupted, or as many as requested."""
    count = values.amount(options.count, "count")
    snaplen = values.amount(options.snaplen, "snaplen")
    verdicts = values.actions(options.verdict) or ActionSet()
    rate = values.amount(options.rate, "rate") if options.rate else SIFTED_RATE if verdicts else DEFAULT_RATE
    timeout = None if options.timeout is None else values.seconds(options.timeout, "timeout", 0.1)
    talk = Talk(options.json, bool(options.verbose))
    running = look(options.interface, options.netns)
    with contextlib.ExitStack() as held:
        out = _Output(options, snaplen, running, held)
        expression = " ".join(options.filter)
        follower = held.enter_context(
            follow(
                running,
                expression,
                count=count,
                rate=rate,
                verdicts=verdicts,
                snaplen=snaplen,
                fates=options.after,
            )
        )
        if follower.remark:
            talk.warn(follower.remark)
        talk.step(f"following on {running.interface}, at most {count} packets, {rate} a second; ctrl-C stops")
        if timeout is not None:
            timer = threading.Timer(timeout, follower.stop)
            held.callback(timer.cancel)
            timer.start()
        ending = held.enter_context(_ending(follower))
        for packet in follower:
            paths = None
            if options.path:
                paths = paths_of_packet(running, [view.head for _, view in arrivals(packet)])
            out.packet(packet, paths)
    if ending:
        return 128 + ending[0]
    _end(follower, talk, options)
    if follower.ended and follower.followed < count:
        raise RaceLost(
            f"following ended before {count} packets arrived",
            follower.ended,
            "Start it again if needed",
        )
    return 0


@contextlib.contextmanager
def _ending(follower: Follower) -> Iterator[list[int]]:
    """Make a signal end the following rather than the process, so that the normal chain comes back first.
    Yields the signals received.
    """
    came: list[int] = []

    def end(signum: int, _frame: object) -> None:
        came.append(signum)
        follower.stop()

    with handling(dict.fromkeys((signal.SIGTERM, signal.SIGHUP), end)):
        yield came


def _end(follower: Follower, talk: Talk, options: Namespace) -> None:
    tally = follower.tally()
    if options.json:
        document = {
            "followed": follower.followed,
            "lost": follower.lost,
            "looked_at": tally.looked_at,
            "passed_by": tally.passed_by,
            "other_verdicts": follower.passed_over,
            "why": follower.ended or TIMED_OUT,
        }
        if options.write != STANDARD_OUTPUT:
            write(json.dumps({"end": document}))
        return
    if follower.lost:
        talk.warn(f"{follower.lost} more packets matched, but parts of their records were lost")
    others = f", {follower.passed_over} with other verdicts" if follower.verdicts else ""
    talk.step(
        f"{tally.looked_at} packets examined, {follower.followed} followed{others}; "
        f"{tally.passed_by} arrived while the rate or the count was used up"
    )
    followed = f"{follower.followed} packet{'s' * (follower.followed != 1)} followed"
    talk.tell(f"ended: {followed}{others}; {follower.ended or TIMED_OUT}")


class _Output:
    """Where packets go: lines on standard output, and a file. Both are opened before following starts."""

    def __init__(
        self, options: Namespace, snaplen: int, running: Running, held: contextlib.ExitStack
    ) -> None:
        self._json = options.json
        self._lines = options.write != STANDARD_OUTPUT
        self._width = shutil.get_terminal_size((WIDTH, 24)).columns
        chain = running.chain or ()
        self._slots = [slot.key for slot in chain]
        self._file: BinaryIO | None = None
        self._written = 0
        self._name = options.write
        if options.write == STANDARD_OUTPUT:
            self._file = sys.stdout.buffer
        elif options.write is not None:
            self._file = _opened(options.write, overwrite=options.force)
            held.callback(self.close)
        self._half = size(options.max_size) // 2 if options.max_size is not None else None
        if self._half is not None and (self._file is None or not _is_file(self._file)):
            raise InvalidInput(
                "--max-size can't be applied", todo="It needs a regular file: use it with -w FILE"
            )
        names = [slot.name for slot in chain]
        self._header = file_header(running.interface.name, names, running.device.layer, snaplen)
        self._put(self._header)

    def packet(self, packet: Followed, paths: Paths | None) -> None:
        blocks = packet_blocks(packet, self._slots)
        if self._half is not None and self._written + len(blocks) > self._half:
            self._rotate()
        self._put(blocks)
        if self._lines:
            if self._json:
                write(json.dumps(packet_document(packet, paths), separators=(",", ":")))
            else:
                write(packet_text(packet, self._width, paths))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _rotate(self) -> None:
        """Make what was written so far the older part, replacing the previous one."""
        self.close()
        try:
            os.replace(self._name, older_part(self._name))
        except OSError as error:
            raise InvalidInput(f"{self._name} can't be renamed", error.strerror or "") from None
        self._file, self._written = _opened(self._name, overwrite=False), 0
        self._put(self._header)

    def _put(self, data: bytes) -> None:
        if self._file is None:
            return
        self._written += len(data)
        try:
            self._file.write(data)
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise InvalidInput(f"{self._name} can't be written", error.strerror or "") from None


def _is_file(file: BinaryIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _opened(path: str, *, overwrite: bool) -> BinaryIO:
    try:
        return os.fdopen(files.create(path, overwrite=overwrite, special=True), "wb")
    except FileExistsError:
        todo = "Give another name, or --force to overwrite it"
        raise InvalidInput(f"{path} already exists", todo=todo) from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be written", error.strerror or "") from None
