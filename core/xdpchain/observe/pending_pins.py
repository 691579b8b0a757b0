# SPDX-License-Identifier: Apache-2.0
"""The pins of a pending change, in ``<bpffs>/xdptui/armed/<netns inode>-<ifindex>``.

``record`` is a frozen map with the description (`PendingChange`), ``decision`` the map that takes the
decision, ``old`` the program to roll back to. If that is a libxdp dispatcher, ``linkN`` and ``progN``
duplicate the pins in its own directory, since other tools may remove those as stale. The directory appears
and disappears atomically, by a rename. The guardian holds an flock on it, which the kernel releases however
the guardian ends, so any process can tell whether it is still alive, from any PID namespace.

The outcome of the last change is pinned as ``<bpffs>/xdptui/settled/<netns inode>-<ifindex>``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xdpchain.advice import Do, advise
from xdpchain.errors import XdpChainError
from xdpchain.sys import all_netns, blobs, bpf, bpffs
from xdpchain.sys.boot_clock import boot_clock
from xdpchain.sys.trusted_directory import TrustedDirectory

if TYPE_CHECKING:
    from xdpchain.model.pending_change import ConfirmOutcome, Decision, PendingChange

__all__ = [
    "PENDING",
    "Found",
    "all_pending",
    "boot_clock",
    "claim",
    "decided",
    "discard",
    "forget_settled",
    "make_decision",
    "open_held",
    "pending_programs",
    "read_pending",
    "remove_pending",
    "unguarded",
    "write_pending",
    "write_settled",
]

RECORD, DECISION, OLD = "record", "decision", "old"
BPF_NOEXIST = 1
PAUSES = (0.001,) * 10 + (0.05,) * 20
PENDING, SETTLED = "armed", "settled"
_ROOT = "xdptui"
_ENTRY = re.compile(r"([1-9][0-9]{0,19})-([1-9][0-9]{0,9})")


# The decision: a hash map of one element, since the kernel lets exactly one writer insert it.


def make_decision() -> bpf.Fd:
    """Create a map that takes one decision."""
    return bpf.map_create(bpf.MapType.HASH, 4, 4, 1, name="xdptui_decision")


def claim(decision: bpf.Fd, wanted: Decision) -> Decision:
    """Decide unless already decided. Returns the decision that stands. Atomic."""
    try:
        bpf.map_update(decision, bytes(4), int(wanted).to_bytes(4, "little"), BPF_NOEXIST)
    except bpf.BpfError as error:
        if error.errno != errno.EEXIST:
            raise
        return decided(decision) or wanted
    return wanted


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


# The pending change


def write_pending(pending: PendingChange, held: Mapping[str, bpf.Fd]) -> int:
    """Pin the record and ``held``, by name. Returns a descriptor of the directory with the flock; close it or
    pass it on. Take the lock first. Raises BpffsMissing, KernelRefused, PermissionDenied.
    """
    making, final = _making(pending), _name(pending.inode, pending.ifindex)
    locked = -1
    try:
        with _opened(PENDING, make=True) as parent:
            try:
                _remove(parent, making)
                _remove(parent, final)  # left by an earlier interface with this ifindex and namespace inode
                with parent.make_child(making, exist_ok=False) as directory:
                    with blobs.make("xdptui_armed", pending.encode()) as record:
                        directory.pin(RECORD, record)
                    for name, fd in held.items():
                        directory.pin(name, fd)
                    locked = directory.descriptor()
                _take(locked)
                parent.rename(making, final)
            except BaseException:
                with contextlib.suppress(OSError):
                    _remove(parent, making)
                raise
    except BaseException as error:
        if locked >= 0:
            os.close(locked)
        if isinstance(error, OSError):
            raise bpf.refusal(error, "the rollback can't be armed", advise(Do.GO_WITHOUT_CONFIRM)) from error
        raise
    return locked


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
    with contextlib.suppress(OSError, XdpChainError), _opened() as root:
        with contextlib.suppress(OSError, XdpChainError), root.child(PENDING) as parent:
            # Without the lock, skip changes that are being armed: testing their flock would hold it for a
            # moment, and the process that arms them does not wait.
            pending = _all_in(parent, lambda name: _place(name) is not None)
        with contextlib.suppress(OSError, XdpChainError), root.child(SETTLED) as directory:
            ended = _all_settled(directory, inode)
    return tuple(found for _, found in pending), ended


def all_pending() -> tuple[Found, ...]:
    """Only the pending changes."""
    return read_pending(0)[0]


def _all_in(parent: TrustedDirectory, wanted: Callable[[str], bool]) -> list[tuple[Path, Found]]:
    """Each pending change that can be read, and its directory."""
    found = []
    for name in filter(wanted, parent.names()):
        with contextlib.suppress(OSError, XdpChainError, ValueError), parent.child(name) as directory:
            change = _record(directory)
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
            _opened(PENDING, _name(pending.inode, pending.ifindex)) as directory,
        ):
            for name in directory.names():
                held[name] = stack.enter_context(directory.get(name))
        mine = DECISION in held and bpf.map_info(held[DECISION]).id == pending.decision
        yield held if mine else {}


def remove_pending(pending: PendingChange) -> None:
    """Remove the pins of exactly this change; no error if they are gone."""
    with open_held(pending) as held:
        if not held:
            return
    with contextlib.suppress(OSError, XdpChainError), _opened(PENDING) as parent:
        making = _making(pending)
        _remove(parent, making)
        parent.rename(_name(pending.inode, pending.ifindex), making)
        _remove(parent, making)


def unguarded() -> tuple[tuple[Path, PendingChange], ...]:
    """The directories and records of all pending changes whose guardian was killed, or that were left
    incomplete. Take the lock first.
    """
    with contextlib.suppress(OSError, XdpChainError), _opened(PENDING) as parent:
        return tuple((path, found.change) for path, found in _all_in(parent, bool) if not found.guarded)
    return ()


def pending_programs() -> frozenset[int]:
    """The program IDs of all chains before and after a pending change: none of them is stale."""
    ends = ((found.change.old, found.change.new) for found in all_pending())
    return frozenset(prog_id for pair in ends for prog_id in pair if prog_id is not None)


# The outcome of the last change


def write_settled(inode: int, ifindex: int, settled: ConfirmOutcome) -> None:
    """Record the outcome of this interface's change, if possible."""
    with contextlib.suppress(OSError, XdpChainError), _opened(SETTLED, make=True) as directory:
        name = _name(inode, ifindex)
        with blobs.make("xdptui_settled", settled.encode()) as fd:
            directory.unlink(name)
            directory.pin(name, fd)
        _forget_old_news(directory)


def _all_settled(directory: TrustedDirectory, inode: int) -> dict[int, ConfirmOutcome]:
    found = {}
    for name in directory.names():
        place = _place(name)
        if place is not None and place[0] == inode:
            with contextlib.suppress(OSError, XdpChainError), directory.get(name) as fd:
                found[place[1]] = _settled(fd)
    return found


def _settled(fd: bpf.Fd) -> ConfirmOutcome:
    from xdpchain.model.pending_change import ConfirmOutcome

    return ConfirmOutcome.decode(blobs.read(fd))


def _forget_old_news(directory: TrustedDirectory) -> None:
    """Remove outcomes of namespaces that are gone: the kernel reuses their inode numbers."""
    here = all_netns.namespaces()
    for name in directory.names():
        place = _place(name)
        if here is not None and place is not None and place[0] not in here:
            directory.unlink(name)


def forget_settled(inode: int, ifindex: int) -> None:
    """Remove the outcome, which the next change has made obsolete."""
    with contextlib.suppress(OSError, XdpChainError), _opened(SETTLED) as directory:
        directory.unlink(_name(inode, ifindex))


def discard(path: Path) -> None:
    """Remove a directory returned by `unguarded`."""
    with contextlib.suppress(OSError, XdpChainError), _opened(PENDING) as parent:
        _remove(parent, path.name)


def _opened(*names: str, make: bool = False) -> contextlib.AbstractContextManager[TrustedDirectory]:
    return bpffs.open_below(_ROOT, *names, make=make)


def _name(inode: int, ifindex: int) -> str:
    return f"{inode}-{ifindex}"


def _place(name: str) -> tuple[int, int] | None:
    """Inode and ifindex from an entry's name; None if it is not ours."""
    match = _ENTRY.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def _making(pending: PendingChange) -> str:
    return f"making-{_name(pending.inode, pending.ifindex)}"


def _record(directory: TrustedDirectory) -> PendingChange:
    from xdpchain.model.pending_change import PendingChange

    with directory.get(RECORD) as fd:
        return PendingChange.decode(blobs.read(fd))


def _remove(parent: TrustedDirectory, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        with parent.child(name) as directory:
            for pin in directory.names():
                directory.unlink(pin)
        parent.rmdir(name)


def _take(fd: int) -> None:
    """Take the flock of a new directory, retrying, since processes that test it hold it for a moment. Raises
    BlockingIOError.
    """
    for pause in PAUSES:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(pause)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _guarded(directory: TrustedDirectory) -> bool:
    fd = directory.descriptor()
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
