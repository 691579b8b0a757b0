# SPDX-License-Identifier: Apache-2.0
"""Find the processes that hold sockets, and the ancestors of this process: proc(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from xdpchain.frozen import frozen

__all__ = ["Process", "ancestors", "process_of", "processes"]

PROC = Path("/proc")
SOCKET = re.compile(r"socket:\[(\d+)\]")


@frozen
class Process:
    """A process: its command (at most 15 bytes, set by the process: don't trust it), its real user, the
    inodes of its sockets (``readable``: they could be inspected), and its environment if that can be read.
    """

    pid: int
    command: str
    uid: int
    inodes: frozenset[int]
    readable: bool
    environment: tuple[bytes, ...] = ()

    def variable(self, name: str) -> str | None:
        """The value of an environment variable when the process started."""
        prefix = name.encode() + b"="
        return next(
            (
                pair[len(prefix) :].decode(errors="replace")
                for pair in self.environment
                if pair.startswith(prefix)
            ),
            None,
        )


def ancestors() -> Iterator[Process]:
    """Our parent, its parent and so on, except the first process of the PID namespace."""
    pid = os.getppid()
    while pid > 1:
        found = process_of(pid)
        if found is None:
            return
        yield found
        try:
            status = (PROC / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return
        pid = int(status.rpartition(")")[2].split()[1])


def processes() -> Iterator[Process]:
    """All visible processes, without their environments."""
    for name in os.listdir(PROC):
        if name.isdigit() and (found := process_of(int(name), environment=False)) is not None:
            yield found


def process_of(pid: int, *, environment: bool = True) -> Process | None:
    """A process; None if it is gone."""
    where = PROC / str(pid)
    try:
        command = (where / "comm").read_text(errors="replace").strip()
        # Not the directory's owner, which is root for non-dumpable processes (PR_SET_DUMPABLE).
        status = (where / "status").read_text(errors="replace")
    except OSError:
        return None
    inodes, readable = set(), True
    try:
        for name in os.listdir(where / "fd"):
            try:
                found = SOCKET.fullmatch(os.readlink(where / "fd" / name))
            except FileNotFoundError:  # closed meanwhile
                continue
            if found:
                inodes.add(int(found[1]))
    except OSError:
        readable = False
    pairs: tuple[bytes, ...] = ()
    if environment:
        try:
            pairs = tuple((where / "environ").read_bytes().split(b"\0"))
        except OSError:
            pairs = ()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:"))
    return Process(pid, command, int(uids.split()[1]), frozenset(inodes), readable, pairs)
