# SPDX-License-Identifier: Apache-2.0
"""The pins of an armed change, in ``<bpffs>/xdptui/armed/<netns inode>-<ifindex>``.

``record`` is a frozen map with the description (`PendingChange`), ``decision`` the map that takes the
decision, ``old`` the program to go back to; and where that is a dispatcher of libxdp's protocol, ``linkN``
and ``progN`` are what its own directory holds as well, for other tools clear away what they take for stale.
The directory appears and disappears by a rename, whole. The guardian holds an flock on it, which the kernel
drops when the guardian ends, however it ends: that tells whether one is still there, from any PID
namespace.

What became of the last one is pinned as ``<bpffs>/xdptui/settled/<netns inode>-<ifindex>``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, XdpChainError
from xdpchain.model.pending_change import ConfirmOutcome, Decision, PendingChange, State
from xdpchain.sys import all_netns, blobs, bpf, bpffs

__all__ = [
    "ARMED",
    "armed_programs",
    "boot_clock",
    "claim",
    "decided",
    "discard",
    "forget_settled",
    "make_decision",
    "noted",
    "open_held",
    "read_armed",
    "read_settled",
    "remove_armed",
    "unguarded",
    "write_armed",
    "write_settled",
]

RECORD, DECISION, OLD = "record", "decision", "old"
BPF_NOEXIST = 1
ARMED, SETTLED = "armed", "settled"
_ROOT = "xdptui"


def boot_clock() -> float:
    """Seconds since boot, time asleep included (CLOCK_BOOTTIME): nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# The decision: a hash map of one element, for the kernel lets exactly one writer insert it.


def make_decision() -> bpf.Fd:
    """A map that takes one decision."""
    return bpf.map_create(bpf.MapType.HASH, 4, 4, 1, name="xdptui_decision")


def claim(decision: bpf.Fd, wanted: Decision) -> Decision:
    """Decide, unless it is decided; returns the decision that stands. Atomic, whoever else claims."""
    try:
        bpf.map_update(decision, bytes(4), int(wanted).to_bytes(4, "little"), BPF_NOEXIST)
    except bpf.BpfError as error:
        if error.errno != errno.EEXIST:
            raise
        return decided(decision) or wanted
    return wanted


def decided(decision: bpf.Fd) -> Decision | None:
    """What was decided; None: nothing yet."""
    try:
        return Decision(int.from_bytes(bpf.map_lookup(decision, bytes(4), 4), "little"))
    except bpf.BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


# The armed change


def write_armed(armed: PendingChange, held: Mapping[str, bpf.Fd]) -> int:
    """Pin the record and ``held``, by name. Returns a descriptor of the directory that holds the flock; close
    it, or hand it on. Take the lock first. Raises BpffsMissing, KernelRefused, PermissionDenied.
    """
    making, final = _making(armed), _directory(armed.inode, armed.ifindex)
    locked = -1
    try:
        _remove(making)
        _remove(final)  # of an interface that had the same ifindex, in a namespace that had the same inode
        making.mkdir(mode=0o700, parents=True)
        with blobs.make("xdptui_armed", armed.encode()) as record:
            bpf.obj_pin(record, str(making / RECORD))
        for name, fd in held.items():
            bpf.obj_pin(fd, str(making / name))
        locked = os.open(making, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        making.rename(final)
    except BaseException as error:
        if locked >= 0:
            os.close(locked)
        with contextlib.suppress(OSError):
            _remove(making)
        if isinstance(error, OSError):
            raise bpf.refusal(error, "the rollback can't be armed", advise(Do.GO_WITHOUT_CONFIRM)) from error
        raise
    return locked


def noted(inode: int) -> frozenset[int]:
    """The ifindexes of a network namespace of which there may be something to read here."""
    found: set[int] = set()
    with contextlib.suppress(OSError, XdpChainError):
        root = bpffs.find() / _ROOT
        for kind in (ARMED, SETTLED):
            with contextlib.suppress(OSError):
                names = (name.split("-") for name in os.listdir(root / kind))
                found |= {int(name[1]) for name in names if name[0] == str(inode)}
    return frozenset(found)


def read_armed(inode: int, ifindex: int, hook: int | None) -> PendingChange | None:
    """The armed change of an interface, whose hook holds the program ``hook``; None: there is none, or it is
    a leftover that means nothing any more, or we may not know.
    """
    try:
        directory = _directory(inode, ifindex)
        if not directory.is_dir():
            return None
        with bpf.obj_get(str(directory / RECORD)) as fd:
            armed = PendingChange.decode(blobs.read(fd))
        guarded = _guarded(directory)
    except (OSError, XdpChainError):
        return None
    if hook != armed.new:
        state = State.MAKING if hook == armed.old else State.OVERTAKEN
        return replace(armed, state=state) if guarded else None
    return armed if guarded else replace(armed, state=State.UNGUARDED)


@contextlib.contextmanager
def open_held(armed: PendingChange) -> Iterator[dict[str, bpf.Fd]]:
    """What is pinned of exactly this armed change, by name; closed at the end. Empty if it is gone."""
    with contextlib.ExitStack() as stack:
        held: dict[str, bpf.Fd] = {}
        with contextlib.suppress(OSError, XdpChainError):
            directory = _directory(armed.inode, armed.ifindex)
            for name in sorted(os.listdir(directory)):
                held[name] = stack.enter_context(bpf.obj_get(str(directory / name)))
        mine = DECISION in held and bpf.map_info(held[DECISION]).id == armed.decision
        yield held if mine else {}


def remove_armed(armed: PendingChange) -> None:
    """Remove the pins of exactly this armed change; fine if they are gone."""
    with open_held(armed) as held:
        if not held:
            return
    with contextlib.suppress(OSError, XdpChainError):
        making = _making(armed)
        _remove(making)
        _directory(armed.inode, armed.ifindex).rename(making)
        _remove(making)


def unguarded() -> tuple[tuple[Path, PendingChange], ...]:
    """The directories, and what they say, of all armed changes whose guardian was killed."""
    found = []
    with contextlib.suppress(OSError, XdpChainError):
        for directory in sorted((bpffs.find() / _ROOT / ARMED).iterdir()):
            with contextlib.suppress(OSError, InvalidInput), bpf.obj_get(str(directory / RECORD)) as fd:
                armed = PendingChange.decode(blobs.read(fd))
                if not _guarded(directory):
                    found.append((directory, armed))
    return tuple(found)


def armed_programs() -> frozenset[int]:
    """The prog ids of all chains that an armed change may go back to, or go on with: nothing of theirs is
    stale.
    """
    found: set[int] = set()
    with contextlib.suppress(OSError, XdpChainError):
        for directory in (bpffs.find() / _ROOT / ARMED).iterdir():
            with contextlib.suppress(OSError, InvalidInput), bpf.obj_get(str(directory / RECORD)) as fd:
                armed = PendingChange.decode(blobs.read(fd))
                found |= {number for number in (armed.old, armed.new) if number is not None}
    return frozenset(found)


# What became of the last one


def write_settled(armed: PendingChange, settled: ConfirmOutcome) -> None:
    """Leave word of what became of it, as far as that is possible."""
    with contextlib.suppress(OSError, XdpChainError):
        path = _settled(armed.inode, armed.ifindex)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with blobs.make("xdptui_settled", settled.encode()) as fd:
            path.unlink(missing_ok=True)
            bpf.obj_pin(fd, str(path))
        _forget_old_news()


def read_settled(inode: int, ifindex: int) -> ConfirmOutcome | None:
    """What became of the last armed change of an interface; None: there was none since the last change."""
    try:
        path = _settled(inode, ifindex)
        if not path.exists():
            return None
        with bpf.obj_get(str(path)) as fd:
            return ConfirmOutcome.decode(blobs.read(fd))
    except (OSError, XdpChainError):
        return None


def _forget_old_news() -> None:
    """Remove what is told of namespaces that are gone: the kernel gives their numbers to others."""
    here = all_netns.namespaces()
    for path in (bpffs.find() / _ROOT / SETTLED).iterdir():
        inode = path.name.partition("-")[0]
        if here is not None and inode.isdecimal() and int(inode) not in here:
            path.unlink(missing_ok=True)


def forget_settled(inode: int, ifindex: int) -> None:
    """The next change has made it old news."""
    with contextlib.suppress(OSError, XdpChainError):
        _settled(inode, ifindex).unlink(missing_ok=True)


def _directory(inode: int, ifindex: int) -> Path:
    return bpffs.find() / _ROOT / ARMED / f"{inode}-{ifindex}"


def _making(armed: PendingChange) -> Path:
    return _directory(armed.inode, armed.ifindex).with_name(f"making-{armed.inode}-{armed.ifindex}")


def _settled(inode: int, ifindex: int) -> Path:
    return bpffs.find() / _ROOT / SETTLED / f"{inode}-{ifindex}"


def discard(directory: Path) -> None:
    """Remove one of `unguarded`."""
    with contextlib.suppress(OSError):
        _remove(directory)


def _remove(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()


def _guarded(directory: Path) -> bool:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
