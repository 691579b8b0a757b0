# SPDX-License-Identifier: Apache-2.0
"""Read a recording: lines are indexed first, and decoded on demand."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, NotFound, PermissionDenied
from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdpchain.observe.site_shares import SlotReasons

from .lines import LONGEST, Happened, Header, RecordedReading, Revision, header_in, line_in
from .writer import older_part

__all__ = ["Recording"]

MOST_BYTES: Final = 1 << 30
LONGEST_HEADER: Final = 1 << 16
MOST_TOLD: Final = 200


@frozen
class _Place:
    part: int
    offset: int
    length: int
    elapsed: float


class Recording:
    """Readings by index from 0, what ran at each, and the index for a time.

    ``skipped`` counts unreadable lines: the last one may be incomplete if the recorder was killed.
    """

    def __init__(self, path: str) -> None:
        """Read the parts of a recording. Raises NotFound, PermissionDenied, InvalidInput (not a recording, a
        newer format, or without a reading).
        """
        self.path = path
        self.skipped = 0
        self._data: list[bytes] = []
        self._readings: list[_Place] = []
        self._revisions: list[_Place] = []
        self._happened: list[_Place] = []
        parts = _parts(path)
        for data, header in parts:
            self.header = header
            self._index(data)
        if not self._readings:
            raise InvalidInput(f"{path} has nothing to replay", "it ends before its first reading")
        self._times = [place.elapsed for place in self._readings]
        self._revised = [place.elapsed for place in self._revisions]
        self._reading = lru_cache(maxsize=1024)(self._read_reading)
        self._revision = lru_cache(maxsize=64)(self._read_revision)

    def __len__(self) -> int:
        return len(self._readings)

    @property
    def began(self) -> float:
        """The first reading's time in seconds since the recording started (later if parts were dropped)."""
        return self._times[0]

    @property
    def ended(self) -> float:
        """The last reading's time."""
        return self._times[-1]

    @property
    def revisions(self) -> tuple[float, ...]:
        """The times at which something else started to run."""
        return tuple(self._revised)

    def reading(self, index: int) -> RecordedReading:
        """A reading. Raises IndexError."""
        return self._reading(index)

    def time(self, index: int) -> float:
        """A reading's time in seconds since the recording started."""
        return self._times[index]

    def number_at(self, elapsed: float) -> int:
        """The index of the last reading at or before this time, else 0."""
        return max(0, bisect_right(self._times, elapsed) - 1)

    def reasons(self, index: int) -> Mapping[int, tuple[SlotReasons, ...]]:
        """The verdict sites of the programs that ran at a reading, by ifindex."""
        revision = self.revision(index)
        return self._revision(revision).reasons if revision >= 0 else {}

    def runnings(self, index: int) -> tuple[Running, ...]:
        """What ran at a reading, sorted by ifindex."""
        revision = self.revision(index)
        return self._revision(revision).runnings if revision >= 0 else ()

    def revision(self, index: int) -> int:
        """The index of the revision that ran at a reading; -1 before the first."""
        return bisect_right(self._revised, self._times[index]) - 1

    def happened(self, index: int) -> tuple[Happened, ...]:
        """What happened to packets up to a reading, oldest first; at most the last 200 lines."""
        end = bisect_right(self._happened, self._times[index], key=lambda place: place.elapsed)
        found = (line_in(self._line(place)) for place in self._happened[max(0, end - MOST_TOLD) : end])
        return tuple(line for line in found if isinstance(line, Happened))

    def _read_reading(self, index: int) -> RecordedReading:
        made = line_in(self._line(self._readings[index]))
        assert isinstance(made, RecordedReading)
        return made

    def _read_revision(self, index: int) -> Revision:
        made = line_in(self._line(self._revisions[index]))
        assert isinstance(made, Revision)
        return made

    def _line(self, place: _Place) -> bytes:
        return self._data[place.part][place.offset : place.offset + place.length]

    def _index(self, data: bytes) -> None:
        self._data.append(data)
        part = len(self._data) - 1
        at = data.find(b"\n") + 1
        if not at:
            return
        last = self._readings[-1].elapsed if self._readings else 0.0
        while at < len(data):
            end = data.find(b"\n", at)
            if end < 0:
                self.skipped += 1  # incomplete: the recorder was killed
                return
            line = data[at:end]
            try:
                if len(line) > LONGEST:
                    raise InvalidInput("too long")
                made = line_in(line)
            except InvalidInput:
                self.skipped += 1
            else:
                if made is not None and made.elapsed < last:
                    self.skipped += 1  # time only goes forward
                elif made is not None:
                    last = made.elapsed
                    place = _Place(part, at, end - at, made.elapsed)
                    self._places(made).append(place)
            at = end + 1

    def _places(self, made: RecordedReading | Revision | Happened) -> list[_Place]:
        if isinstance(made, RecordedReading):
            return self._readings
        return self._revisions if isinstance(made, Revision) else self._happened


def _parts(path: str) -> list[tuple[bytes, Header]]:
    """The existing parts, oldest first."""
    older = older_part(path)
    if not os.path.exists(path) and os.path.exists(older):  # killed between two parts
        path = older
    data = _read(path)
    found = [(data, _header(data, path))]
    if path != older and os.path.exists(older):
        try:
            before = _read(older)
            header = _header(before, older)
        except (InvalidInput, NotFound, PermissionDenied):
            return found
        newest = found[0][1]
        if (header.recording, header.part + 1) == (newest.recording, newest.part):
            found.insert(0, (before, header))
    return found


def _header(data: bytes, path: str) -> Header:
    return header_in(data[: data.find(b"\n") + 1][:LONGEST], path)


def _read(path: str) -> bytes:
    try:
        # Non-blocking: opening a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInput(f"{path} is not a recording", "it is not a regular file")
            if found.st_size > MOST_BYTES:
                raise InvalidInput(
                    f"{path} can't be replayed",
                    f"it has {found.st_size} bytes; at most {MOST_BYTES} are read",
                )
            header = file.readline(LONGEST_HEADER)
            header_in(header, path)
            return header + file.read(MOST_BYTES - len(header))
    except OSError as error:
        why = os.strerror(error.errno or errno.EIO)
        if isinstance(error, PermissionError):
            raise PermissionDenied(f"{path} can't be read", why) from error
        if isinstance(error, FileNotFoundError):
            raise NotFound(f"{path} can't be read", why, advise(Do.RECORD)) from error
        raise InvalidInput(f"{path} can't be read", why) from error
