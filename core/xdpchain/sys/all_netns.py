# SPDX-License-Identifier: Apache-2.0
"""Find the XDP programs in all network namespaces that can be reached from here.

The kernel lists interfaces per namespace and has no list of namespaces. A namespace is kept alive by a
process or thread in it, by a mount, or by an open descriptor; all of these are visible in /proc.
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

__all__ = ["Sighting", "named_spellings", "namespaces", "spellings", "visit", "xdp_programs"]

PROC = Path("/proc")
_GONE = (FileNotFoundError, ProcessLookupError)
"""The process, descriptor or mount that led to a namespace no longer exists."""


class Sighting(NamedTuple):
    """The prog ids on all XDP hooks that were seen.

    ``complete`` means that there can be no others. It is false inside a PID namespace (a container), where
    the namespaces of outside processes are hidden, and if a namespace could not be entered.
    """

    programs: frozenset[int]
    complete: bool


def xdp_programs() -> Sighting:
    """Look into every namespace. Takes a few ms plus about 1 ms per namespace."""
    found: set[int] = set()

    def look() -> bool:
        with Netlink() as netlink:
            found.update(attachment.prog_id for link in netlink.links() for attachment in link.xdp)
        return False

    complete = visit(look)
    return Sighting(frozenset(found), complete)


def visit(call: Callable[[], bool]) -> bool:
    """Run ``call`` in each reachable network namespace until it returns True. Returns whether every existing
    namespace is known to have been visited.
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
    """The inode numbers of all network namespaces, without entering any; None if some may be hidden."""
    if not _sees_all_processes():
        return None
    found = set()
    for path in _paths():
        with contextlib.suppress(*_GONE), _namespace(path) as (_, inode):
            found.add(inode)
    return frozenset(found)


def named_spellings() -> dict[int, str | None]:
    """Our own network namespace (None) and those with names, sorted, by inode number."""
    found: dict[int, str | None] = {netns.inode(): None}
    for name in netns.names():
        with contextlib.suppress(*_GONE):
            found.setdefault((netns.RUN_DIR / name).stat().st_ino, name)
    return found


def spellings() -> tuple[tuple[str | None, ...], bool]:
    """How to write each network namespace that can be reached (`netns_spelling`): the named ones, then the
    rest, by a process in it or by what holds it; and whether there can be no others.
    """
    found = named_spellings()
    for path in _paths():
        with contextlib.suppress(OSError, XdpChainError), _namespace(path) as (_, inode):
            main = re.fullmatch(r"/proc/([0-9]+)/task/\1/ns/net", path)
            found.setdefault(inode, f"pid:{main[1]}" if main else path)
    return tuple(found.values()), _sees_all_processes()


@contextmanager
def _namespace(path: str) -> Iterator[tuple[int, int]]:
    """A descriptor for the network namespace at a path, and its inode number.

    Raises FileNotFoundError if there is no such namespace (any more), ProcessLookupError and OSError.
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
    """Every path to a network namespace; many lead to the same one."""
    yield str(netns.OWN)
    nsfs = netns.OWN.stat().st_dev
    mounts: set[str] = set()
    for process in PROC.iterdir():
        if not process.name.isdigit():
            continue
        try:
            tasks = os.listdir(process / "task")
            mounted = os.readlink(process / "ns/mnt")
        except OSError:  # gone, or not ours to read
            continue
        for task in tasks:
            yield f"{process}/task/{task}/ns/net"
        yield from _descriptors(process, nsfs)
        if mounted not in mounts:
            yield from _mounted(process)
            with contextlib.suppress(OSError):  # it ended: read the mounts through the next process
                if os.readlink(process / "ns/mnt") == mounted:
                    mounts.add(mounted)


def _descriptors(process: Path, nsfs: int) -> Iterator[str]:
    try:
        fd_names = os.listdir(process / "fd")
    except OSError:
        return
    for fd_name in fd_names:
        path = f"{process}/fd/{fd_name}"
        # Not by its link text: a mounted namespace shows its mount point, or "/" once unmounted.
        with contextlib.suppress(OSError):
            if os.stat(path).st_dev == nsfs:
                yield path


def _mounted(process: Path) -> Iterator[str]:
    """The network namespaces mounted in the process's mount namespace, as `ip netns` does it."""
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
