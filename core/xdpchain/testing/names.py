# SPDX-License-Identifier: Apache-2.0
"""Who owns a playground: its namespaces have the owner's PID and start time in their names.

A PID alone is not enough, because the kernel reuses it. With both, anyone who finds such a namespace can tell
whether its owner is alive, without a separate file that could disagree.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Literal

from xdpchain.frozen import frozen

__all__ = ["Owned", "Side", "fresh", "parse"]

Side = Literal["near", "peer"]

_PATTERN = re.compile(r"xdptui-(?P<pid>\d+)-(?P<start>\d+)-(?P<unique>[0-9a-f]{4})-(?P<side>near|peer)")


@frozen
class Owned:
    """A playground's namespace. ``start`` is in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    start: int
    unique: str
    side: Side

    def __str__(self) -> str:
        return f"xdptui-{self.pid}-{self.start}-{self.unique}-{self.side}"

    @property
    def there(self) -> bool:
        """Whether the namespace exists."""
        return Path("/run/netns", str(self)).exists()

    @property
    def orphaned(self) -> bool:
        """Whether the process that created it is gone."""
        return _start_time(self.pid) != self.start


def fresh() -> tuple[str, str]:
    """The names of this process's next playground: the interface's namespace, then the peer's."""
    pid = os.getpid()
    start = _start_time(pid)
    assert start is not None  # we are running
    unique = secrets.token_hex(2)
    return str(Owned(pid, start, unique, "near")), str(Owned(pid, start, unique, "peer"))


def parse(name: str) -> Owned | None:
    """The owner that a namespace's name states; None if it does not belong to a playground."""
    match = _PATTERN.fullmatch(name)
    if match is None:
        return None
    side: Side = "near" if match["side"] == "near" else "peer"
    return Owned(int(match["pid"]), int(match["start"]), match["unique"], side)


def _start_time(pid: int) -> int | None:
    """None: no such process, or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name may contain spaces and parentheses
    return None if state in "ZX" else int(fields[18])
