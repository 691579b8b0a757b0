# SPDX-License-Identifier: Apache-2.0
"""Find the processes that hold BPF programs and links open: proc_pid_fdinfo(5)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Literal

from xdpchain.frozen import frozen

__all__ = ["FdOwner", "fd_owners"]

PROC = Path("/proc")
PATIENCE = 1.0
"""Seconds a search may take. 100,000 descriptors take about half of it."""


@frozen
class FdOwner:
    """A process with a descriptor for the program, or for a link that attaches it."""

    pid: int
    command: str
    holds: Literal["program", "link"]
    id: int


def fd_owners(programs: Set[int], links: Set[int]) -> tuple[tuple[FdOwner, ...], bool]:
    """The processes that hold any of these, by PID, except this one; and whether all could be inspected.

    Inspecting other users' processes takes root or CAP_SYS_PTRACE. Those of outer PID namespaces are hidden.
    """
    owners: dict[tuple[int, str, int], FdOwner] = {}
    complete = True
    deadline = time.monotonic() + PATIENCE
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            fd_names = os.listdir(PROC / str(pid) / "fd")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            complete = False
            continue
        for fd_name in fd_names:
            if time.monotonic() > deadline:
                return tuple(owners.values()), False
            for kind, identity in _objects(pid, fd_name):
                if identity in (links if kind == "link" else programs):
                    owners[pid, kind, identity] = FdOwner(pid, _command(pid), kind, identity)
    return tuple(owners.values()), complete


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())


def _objects(pid: int, fd_name: str) -> Iterator[tuple[Literal["program", "link"], int]]:
    try:
        if not os.readlink(f"{PROC}/{pid}/fd/{fd_name}").startswith("anon_inode:bpf"):
            return
        text = Path(f"{PROC}/{pid}/fdinfo/{fd_name}").read_text()
    except OSError:  # closed meanwhile
        return
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "link_id" in lines:  # a link's fdinfo has a prog_id too
        yield "link", int(lines["link_id"])
    elif "prog_id" in lines:
        yield "program", int(lines["prog_id"])


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text(errors="replace").strip() or "?"
    except OSError:
        return "?"
