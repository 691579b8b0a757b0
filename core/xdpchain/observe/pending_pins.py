# SPDX-License-Identifier: Apache-2.0
"""Read the pins of a pending change, in ``<bpffs>/xdptui/armed/<netns inode>-<ifindex>``.

``record`` is a frozen map with the description (`PendingChange`), ``decision`` the map that takes the
decision, ``old`` the program to roll back to. If that is a libxdp dispatcher, ``linkN`` and ``progN``
duplicate the pins in its own directory, since other tools may remove those as stale. The directory appears
and disappears atomically, by a rename from or to ``making-<netns inode>-<ifindex>``. The guardian holds an
flock on it, which the kernel releases however the guardian ends, so any process can tell whether it is still
alive, from any PID namespace.

``armed/program-<new prog id>`` pins the record once more, to find the change after its interface has moved to
another namespace without reading those of all others.

The outcome of the last change is pinned as ``<bpffs>/xdptui/settled/<netns inode>-<ifindex>``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xdpchain.errors import XdpChainError
from xdpchain.sys import blobs, bpf, bpffs
from xdpchain.sys.boot_clock import boot_clock
from xdpchain.sys.trusted_directory import TrustedDirectory

if TYPE_CHECKING:
    from xdpchain.model.pending_change import ConfirmOutcome, Decision, PendingChange

__all__ = [
    "DECISION",
    "MAKING",
    "OLD",
    "PENDING",
    "RECORD",
    "SETTLED",
    "Found",
    "all_pending",
    "boot_clock",
    "decided",
    "entry_name",
    "entry_place",
    "open_held",
    "opened",
    "pending_programs",
    "program_name",
    "read_pending",
    "read_pending_of",
    "record_in",
    "remains",
    "unguarded",
]

RECORD, DECISION, OLD = "record", "decision", "old"
PENDING, SETTLED = "armed", "settled"
MAKING, PROGRAM = "making-", "program-"
_ROOT = "xdptui"
_ENTRY = re.compile(r"([1-9][0-9]{0,19})-([1-9][0-9]{0,9})")


def decided(decision: bpf.Fd) -> Decision | None:
    """The decision; None if there is none yet."""
    from xdpchain.model.pending_change import (
        Decision,  # late: rarely needed
    )

    try:
        return Decision(int.from_bytes(bpf.map_lookup(decision, bytes(4), 4), "little"))
    except bpf.BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


class Found(NamedTuple):
    """A pending change read from its pins, its decision (None: not yet), and whether its guardian lives."""

    change: PendingChange
    decision: Decision | None
    guarded: bool


def read_pending(inode: int) -> tuple[tuple[Found, ...], dict[int, ConfirmOutcome]]:
    """All pending changes, of all network namespaces, without those that can't be read; and for each
    interface of one namespace, by ifindex, the outcome of its last pending change, if nothing was changed
    since.
    """
    pending: list[tuple[Path, Found]] = []
    ended: dict[int, ConfirmOutcome] = {}
    with contextlib.suppress(OSError, XdpChainError), opened() as root:
        with contextlib.suppress(OSError, XdpChainError), root.child(PENDING) as parent:
            pending = _all_in(parent)
        with contextlib.suppress(OSError, XdpChainError), root.child(SETTLED) as directory:
            ended = _all_settled(directory, inode)
    return tuple(found for _, found in pending), ended


def read_pending_of(
    inode: int, ifindex: int, program: int | None
) -> tuple[tuple[Found, ...], dict[int, ConfirmOutcome]]:
    """As `read_pending`, of one interface that has this program on its hook. Reads nothing of others."""
    name = entry_name(inode, ifindex)
    pending: list[tuple[Path, Found]] = []
    ended: dict[int, ConfirmOutcome] = {}
    with contextlib.suppress(OSError, XdpChainError), opened() as root:
        with contextlib.suppress(OSError, XdpChainError), root.child(PENDING) as parent:
            names = [name]
            if program is not None:
                with contextlib.suppress(OSError, XdpChainError), parent.get(program_name(program)) as fd:
                    change = _decoded(fd)
                    names.append(entry_name(change.inode, change.ifindex))
            pending = _read_each(parent, dict.fromkeys(names))
        with (
            contextlib.suppress(OSError, XdpChainError),
            root.child(SETTLED) as directory,
            directory.get(name) as fd,
        ):
            ended[ifindex] = _settled(fd)
    return tuple(found for _, found in pending), ended


def all_pending() -> tuple[Found, ...]:
    """Only the pending changes."""
    return read_pending(0)[0]


def _all_in(parent: TrustedDirectory) -> list[tuple[Path, Found]]:
    """Each pending change that can be read, and its directory; without those that are being armed."""
    return _read_each(parent, (name for name in parent.names() if entry_place(name) is not None))


def _read_each(parent: TrustedDirectory, names: Iterable[str]) -> list[tuple[Path, Found]]:
    found = []
    for name in names:
        with contextlib.suppress(OSError, XdpChainError, ValueError), parent.child(name) as directory:
            change = record_in(directory)
            with directory.get(DECISION) as decision:
                if bpf.map_info(decision).id == change.decision:
                    said = Found(change, decided(decision), _guarded(directory))
                    found.append((directory.path, said))
    return found


@contextlib.contextmanager
def open_held(pending: PendingChange) -> Iterator[dict[str, bpf.Fd]]:
    """The pinned objects of exactly this change, by name; closed on exit. Empty if it is gone."""
    with contextlib.ExitStack() as stack:
        held: dict[str, bpf.Fd] = {}
        with (
            contextlib.suppress(OSError, XdpChainError),
            opened(PENDING, entry_name(pending.inode, pending.ifindex)) as directory,
        ):
            for name in directory.names():
                held[name] = stack.enter_context(directory.get(name))
        mine = DECISION in held and bpf.map_info(held[DECISION]).id == pending.decision
        yield held if mine else {}


def unguarded() -> tuple[tuple[Path, PendingChange], ...]:
    """The directories and records of all pending changes whose guardian was killed. Take the lock first."""
    with contextlib.suppress(OSError, XdpChainError), opened(PENDING) as parent:
        return tuple((path, found.change) for path, found in _all_in(parent) if not found.guarded)
    return ()


def remains() -> tuple[Path, ...]:
    """What was left by processes that were killed while they armed a change, or removed one that was settled:
    part of its pins. Take the lock first.
    """
    with contextlib.suppress(OSError, XdpChainError), opened(PENDING) as parent:
        names = parent.names()  # first: what is armed meanwhile is then whole
        whole = {found.change.decision for _, found in _all_in(parent)}
        return tuple(parent.path / name for name in names if _remains(parent, name, whole))
    return ()


def _remains(parent: TrustedDirectory, name: str, whole: Container[int]) -> bool:
    with contextlib.suppress(OSError, XdpChainError, ValueError):
        if name.startswith(MAKING):
            with parent.child(name) as directory:
                return not _guarded(directory)
        if name.startswith(PROGRAM):
            with parent.get(name) as record:
                return _decoded(record).decision not in whole
    return False


def pending_programs() -> frozenset[int]:
    """The program IDs of all chains before and after a pending change: none of them is stale."""
    ends = ((found.change.old, found.change.new) for found in all_pending())
    return frozenset(prog_id for pair in ends for prog_id in pair if prog_id is not None)


def _all_settled(directory: TrustedDirectory, inode: int) -> dict[int, ConfirmOutcome]:
    found = {}
    for name in directory.names():
        place = entry_place(name)
        if place is not None and place[0] == inode:
            with contextlib.suppress(OSError, XdpChainError), directory.get(name) as fd:
                found[place[1]] = _settled(fd)
    return found


def _settled(fd: bpf.Fd) -> ConfirmOutcome:
    from xdpchain.model.pending_change import ConfirmOutcome

    return ConfirmOutcome.decode(blobs.read(fd))


def opened(*names: str, make: bool = False) -> TrustedDirectory:
    """Our directory in the BPF filesystem, or one below it, as `bpffs.open_below`."""
    return bpffs.open_below(_ROOT, *names, make=make)


def entry_name(inode: int, ifindex: int) -> str:
    """The entry's name for an interface, in ``armed`` and ``settled``."""
    return f"{inode}-{ifindex}"


def program_name(program: int | None) -> str:
    """The name of the second pin of a record, by the program that the change put on the hook."""
    return f"{PROGRAM}{program}"


def entry_place(name: str) -> tuple[int, int] | None:
    """Inode and ifindex from an entry's name; None if it is not ours."""
    match = _ENTRY.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def record_in(directory: TrustedDirectory) -> PendingChange:
    """The change that is described there. Raises OSError, XdpChainError."""
    with directory.get(RECORD) as fd:
        return _decoded(fd)


def _decoded(record: bpf.Fd) -> PendingChange:
    from xdpchain.model.pending_change import PendingChange

    return PendingChange.decode(blobs.read(record))


def _guarded(directory: TrustedDirectory) -> bool:
    fd = directory.descriptor()
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
