# SPDX-License-Identifier: Apache-2.0
"""Write and remove the pins of a pending change, described in `observe.pending_pins`, and take its decision.

The decision is a hash map of one element, since the kernel lets exactly one writer insert it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path

from xdpchain.advice import Do, advise
from xdpchain.errors import XdpChainError
from xdpchain.model.pending_change import ConfirmOutcome, Decision, PendingChange
from xdpchain.observe.pending_pins import (
    MAKING,
    PENDING,
    RECORD,
    SETTLED,
    decided,
    entry_name,
    entry_place,
    open_held,
    opened,
    program_name,
    record_in,
)
from xdpchain.sys import all_netns, blobs, bpf
from xdpchain.sys.trusted_directory import TrustedDirectory

__all__ = [
    "claim",
    "discard",
    "forget_settled",
    "make_decision",
    "remove_pending",
    "write_pending",
    "write_settled",
]

BPF_NOEXIST = 1
PAUSES = (0.001,) * 10 + (0.05,) * 20


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


def write_pending(pending: PendingChange, held: Mapping[str, bpf.Fd]) -> int:
    """Pin the record and ``held``, by name. Returns a descriptor of the directory with the flock; close it or
    pass it on. Take the lock first. Raises BpffsMissing, KernelRefused, PermissionDenied.
    """
    making, final = _making(pending), entry_name(pending.inode, pending.ifindex)
    locked = -1
    try:
        with opened(PENDING, make=True) as parent:
            try:
                _remove(parent, making)
                _remove(parent, final)  # left by an earlier interface with this ifindex and namespace inode
                with parent.make_child(making, exist_ok=False) as directory:
                    with blobs.make("xdptui_armed", pending.encode()) as record:
                        directory.pin(RECORD, record)
                        if pending.new is not None:
                            parent.pin(program_name(pending.new), record)
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


def remove_pending(pending: PendingChange) -> None:
    """Remove the pins of exactly this change; no error if they are gone."""
    with open_held(pending) as held:
        if not held:
            return
    with contextlib.suppress(OSError, XdpChainError), opened(PENDING) as parent:
        making = _making(pending)
        _remove(parent, making)
        parent.rename(entry_name(pending.inode, pending.ifindex), making)
        _remove(parent, making)


def discard(path: Path) -> None:
    """Remove what `unguarded` or `remains` returned."""
    with contextlib.suppress(OSError, XdpChainError), opened(PENDING) as parent:
        try:
            _remove(parent, path.name)
        except NotADirectoryError:
            parent.unlink(path.name)


# The outcome of the last change


def write_settled(inode: int, ifindex: int, settled: ConfirmOutcome) -> None:
    """Record the outcome of this interface's change, if possible."""
    with contextlib.suppress(OSError, XdpChainError), opened(SETTLED, make=True) as directory:
        name = entry_name(inode, ifindex)
        with blobs.make("xdptui_settled", settled.encode()) as fd:
            directory.unlink(name)
            directory.pin(name, fd)
        _forget_old_news(directory)


def _forget_old_news(directory: TrustedDirectory) -> None:
    """Remove outcomes of namespaces that are gone: the kernel reuses their inode numbers."""
    here = all_netns.namespaces()
    for name in directory.names():
        place = entry_place(name)
        if here is not None and place is not None and place[0] not in here:
            directory.unlink(name)


def forget_settled(inode: int, ifindex: int) -> None:
    """Remove the outcome, which the next change has made obsolete."""
    with contextlib.suppress(OSError, XdpChainError), opened(SETTLED) as directory:
        directory.unlink(entry_name(inode, ifindex))


def _making(pending: PendingChange) -> str:
    return MAKING + entry_name(pending.inode, pending.ifindex)


def _remove(parent: TrustedDirectory, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        with parent.child(name) as directory:
            with contextlib.suppress(OSError, XdpChainError):  # killed before it was pinned
                parent.unlink(program_name(record_in(directory).new))
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
