# SPDX-License-Identifier: Apache-2.0
"""Who owns a playground: its namespaces carry the owner's pid and start time in their names.

A pid alone is not enough, because the kernel uses it again. So whoever finds such a namespace can tell
whether its owner still lives, without a file that could disagree.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Owned", "Side", "fresh", "parse"]

Side = Literal["near", "peer"]

_PATTERN = re.compile(r"xdptui-(?P<pid>\d+)-(?P<start>\d+)-(?P<unique>[0-9a-f]{4})-(?P<side>near|peer)")


@dataclass(frozen=True, slots=True)
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
        """Whether the process that made it is gone."""
        return _start_time(self.pid) != self.start


def fresh() -> tuple[str, str]:
    """Names for this process's next playground: where its interface lives, and where its peer does."""
    pid = os.getpid()
    start = _start_time(pid)
    assert start is not None  # we live
    unique = secrets.token_hex(2)
    return str(Owned(pid, start, unique, "near")), str(Owned(pid, start, unique, "peer"))


def parse(name: str) -> Owned | None:
    """What the name of a namespace says; None when it does not belong to a playground."""
    match = _PATTERN.fullmatch(name)
    if match is None:
        return None
    side: Side = "near" if match["side"] == "near" else "peer"
    return Owned(int(match["pid"]), int(match["start"]), match["unique"], side)


def _start_time(pid: int) -> int | None:
    """None: no such process, or only its exit status is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and parentheses
    return None if state in "ZX" else int(fields[18])
