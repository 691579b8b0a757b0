# SPDX-License-Identifier: Apache-2.0
"""Which XDP programs run, in all network namespaces that can be reached from here.

The kernel lists interfaces a namespace at a time, and keeps no list of namespaces. Each is held by a process
or thread in it, by a mount, or by an open descriptor; all of them show in /proc.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from xdpchain.errors import XdpChainError

from . import netns
from .namespaces import is_initial
from .netlink import Netlink

__all__ = ["Sighting", "namespaces", "spellings", "visit", "xdp_programs"]

PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError)
"""The process, the descriptor or the mount, and with it this way into a namespace."""


class Sighting(NamedTuple):
    """The prog ids on all XDP hooks that were seen.

    ``complete``: there can be no others. It is false in a PID namespace of its own (a container), from where
    others' namespaces don't show, and when one that shows could not be entered.
    """

    programs: frozenset[int]
    complete: bool


def xdp_programs() -> Sighting:
    """Look into every namespace. Takes a few ms, and about 1 ms more for each namespace."""
    found: set[int] = set()

    def look() -> bool:
        with Netlink() as netlink:
            found.update(attachment.prog_id for link in netlink.links() for attachment in link.xdp)
        return False

    complete = visit(look)
    return Sighting(frozenset(found), complete)


def visit(call: Callable[[], bool]) -> bool:
    """Call inside each network namespace that can be reached, until ``call`` answers True. Returns whether
    there can be no other namespaces than those in which it was called.
    """
    complete = _sees_all_processes()
    seen: set[int] = set()
    for path in _paths():
        try:
            with _namespace(path) as (fd, inode):
                if inode in seen:
                    continue
                if netns.run_at(f"/proc/self/fd/{fd}", call):
                    return False
                seen.add(inode)
        except _GONE:
            continue
        except (OSError, XdpChainError):
            complete = False
    return complete


def namespaces() -> frozenset[int] | None:
    """The inode numbers of all network namespaces; None where not all can be seen. Enters none."""
    if not _sees_all_processes():
        return None
    found = set()
    for path in _paths():
        with contextlib.suppress(*_GONE), _namespace(path) as (_, inode):
            found.add(inode)
    return frozenset(found)


def spellings() -> tuple[tuple[str | None, ...], bool]:
    """How to name each network namespace that can be reached (`netns_spelling`): our own (None), those with
    names, sorted, and then the rest, by a process in it or by what holds it; and whether there can be no
    others.
    """
    found: dict[int, str | None] = {netns.inode(): None}
    for name in netns.names():
        with contextlib.suppress(*_GONE):
            found.setdefault((netns.RUN_DIR / name).stat().st_ino, name)
    for path in _paths():
        with contextlib.suppress(OSError, XdpChainError), _namespace(path) as (_, inode):
            main = re.fullmatch(r"/proc/([0-9]+)/task/\1/ns/net", path)
            found.setdefault(inode, f"pid:{main[1]}" if main else path)
    return tuple(found.values()), _sees_all_processes()


@contextmanager
def _namespace(path: str) -> Iterator[tuple[int, int]]:
    """A descriptor of the network namespace behind a path, and its inode number.

    Raises FileNotFoundError where there is no such namespace (any more), ProcessLookupError, and OSError.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        fd = netns.reopened(place)
    finally:
        os.close(place)
    try:
        yield fd, os.fstat(fd).st_ino
    finally:
        os.close(fd)


def _sees_all_processes() -> bool:
    return is_initial("pid") is True


def _paths() -> Iterator[str]:
    """Every way into a network namespace, many of them into the same."""
    yield str(netns.OWN)
    nsfs = netns.OWN.stat().st_dev
    mounts: set[str] = set()
    for process in PROC.iterdir():
        if not process.name.isdigit():
            continue
        try:
            tasks = os.listdir(process / "task")
            mounted = os.readlink(process / "ns/mnt")
        except OSError:  # gone, or a kernel thread of another owner
            continue
        for task in tasks:
            yield f"{process}/task/{task}/ns/net"
        yield from _descriptors(process, nsfs)
        if mounted not in mounts:
            yield from _mounted(process)
            with contextlib.suppress(OSError):  # it ended meanwhile: the next process there is asked again
                if os.readlink(process / "ns/mnt") == mounted:
                    mounts.add(mounted)


def _descriptors(process: Path, nsfs: int) -> Iterator[str]:
    try:
        numbers = os.listdir(process / "fd")
    except OSError:
        return
    for number in numbers:
        path = f"{process}/fd/{number}"
        # Not by its name: a descriptor of a mounted namespace is called by the mount, or "/" without it.
        with contextlib.suppress(OSError):
            if os.stat(path).st_dev == nsfs:
                yield path


def _mounted(process: Path) -> Iterator[str]:
    """The namespaces that are mounted somewhere in the process's mount namespace, as `ip netns` does."""
    try:
        lines = (process / "mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after.startswith("nsfs ") and fields[3].startswith("net:["):
            place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            yield f"{process}/root{place}"
