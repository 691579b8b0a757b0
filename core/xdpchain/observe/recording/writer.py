# SPDX-License-Identifier: Apache-2.0
"""Write a recording to a file of limited size.

Lines are only appended, each with one write: if killed, at most the last line is incomplete. When the file
reaches half of its allowed size, it becomes ``FILE.1`` (replacing the older part), and a new part starts that
can be read alone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from xdpchain import files
from xdpchain.advice import Do, advise
from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput, PermissionDenied, XdpChainError
from xdpchain.model.running import Running
from xdpchain.observe.site_shares import SlotReasons

from .lines import (
    Happened,
    Header,
    RecordedReading,
    Revision,
    happened_out,
    header_out,
    reading_out,
    revision_out,
)

__all__ = ["DEFAULT_SIZE", "LEAST_SIZE", "Writer", "older_part"]

DEFAULT_SIZE: Final = 64 << 20
LEAST_SIZE: Final = 64 << 10
"""Smallest size that holds a few readings of a full chain."""


def older_part(path: str) -> str:
    """The path of the part before ``path``."""
    return path + ".1"


class Writer(Closing):
    """An open recording."""

    def __init__(
        self,
        path: str,
        header: Header,
        *,
        max_size: int = DEFAULT_SIZE,
        overwrite: bool = False,
    ) -> None:
        """Start a recording in ``path``, of at most ``max_size`` bytes including its older part. Raises
        InvalidInput (the file exists and not ``overwrite``; no such directory), PermissionDenied.
        """
        self.path = path
        self._header = replace(header, recording=header.recording or secrets.token_hex(8))
        self._half = max(LEAST_SIZE, max_size) // 2
        self._last: Revision | None = None
        self._names: dict[str, str] = {}
        self._fd = -1
        try:
            if overwrite and os.path.lexists(older_part(path)):
                os.unlink(older_part(path))
            self._begin(overwrite=overwrite)
        except FileExistsError:
            raise InvalidInput(f"{path} already exists", todo=advise(Do.OVERWRITE)) from None
        except OSError as error:
            raise _refused(f"{path} can't be written", error) from error

    def running(
        self,
        at: float,
        elapsed: float,
        runnings: Sequence[Running],
        reasons: Mapping[int, tuple[SlotReasons, ...]] | None = None,
    ) -> None:
        """Write what runs from now on, and its verdict sites by ifindex."""
        self._last = Revision(at, elapsed, tuple(runnings), reasons or {})
        slots = (slot for running in runnings for slot in running.chain or running.shown or ())
        self._names = {slot.key: slot.name for slot in slots}
        self._append(revision_out(self._last))

    def reading(self, reading: RecordedReading) -> None:
        """Write counters."""
        self._append(reading_out(reading, self._names))

    def happened(self, event: Happened) -> None:
        """Write what happened to packets after their program."""
        self._append(happened_out(event))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _begin(self, *, overwrite: bool = False) -> None:
        self._fd = files.create(self.path, overwrite=overwrite)
        self._size = 0
        self._write(header_out(self._header))

    def _append(self, line: bytes) -> None:
        try:
            if self._size + len(line) > self._half:
                self._rotate()
            self._write(line)
        except OSError as error:
            raise _refused(f"{self.path} can't be written", error) from error

    def _rotate(self) -> None:
        self.close()
        os.replace(self.path, older_part(self.path))
        self._header = replace(self._header, part=self._header.part + 1)
        self._begin()
        if self._last is not None:
            self._write(revision_out(self._last))

    def _write(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            view = view[os.write(self._fd, view) :]
        self._size += len(line)


def _refused(what: str, error: OSError) -> XdpChainError:
    why = os.strerror(error.errno or 0)
    if isinstance(error, PermissionError):
        return PermissionDenied(what, why)
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return InvalidInput(what, why, "Give a file in a directory that exists")
    return XdpChainError(what, why, "What was written so far can be replayed")
