# SPDX-License-Identifier: Apache-2.0
"""Which processes hold BPF programs and links open: proc_pid_fdinfo(5)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["FdOwner", "fd_owners"]

PROC = Path("/proc")
PATIENCE = 1.0
"""Seconds that a search may take; a machine with 100,000 descriptors takes about half of it."""


@dataclass(frozen=True, slots=True)
class FdOwner:
    """A process with a descriptor of the program, or of a link that attaches it."""

    pid: int
    command: str
    holds: Literal["program", "link"]
    id: int


def fd_owners(programs: Set[int], links: Set[int]) -> tuple[tuple[FdOwner, ...], bool]:
    """The processes that hold any of these, by pid, without our own; and whether all could be looked into.

    Those of other users take root (or CAP_SYS_PTRACE), those of other PID namespaces don't show.
    """
    found: dict[tuple[int, str, int], FdOwner] = {}
    complete = True
    deadline = time.monotonic() + PATIENCE
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            numbers = os.listdir(PROC / str(pid) / "fd")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            complete = False
            continue
        for number in numbers:
            if time.monotonic() > deadline:
                return tuple(found.values()), False
            for kind, identity in _objects(pid, number):
                if identity in (links if kind == "link" else programs):
                    found[pid, kind, identity] = FdOwner(pid, _command(pid), kind, identity)
    return tuple(found.values()), complete


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())


def _objects(pid: int, number: str) -> Iterator[tuple[Literal["program", "link"], int]]:
    try:
        if not os.readlink(f"{PROC}/{pid}/fd/{number}").startswith("anon_inode:bpf"):
            return
        text = Path(f"{PROC}/{pid}/fdinfo/{number}").read_text()
    except OSError:  # closed meanwhile
        return
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "link_id" in lines:  # a link's lines name its program as well
        yield "link", int(lines["link_id"])
    elif "prog_id" in lines:
        yield "program", int(lines["prog_id"])


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text(errors="replace").strip() or "?"
    except OSError:
        return "?"
