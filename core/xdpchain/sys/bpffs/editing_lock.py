# SPDX-License-Identifier: Apache-2.0
"""The lock that every editor of XDP chains takes."""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from xdpchain.errors import Busy
from xdpchain.sys.trusted_directory import TrustedDirectory

from .mounting import FALLBACK_LOCK, kept_open, lock_place, refused

__all__ = ["lock"]

_RETRY_S = (0.005, 0.05)  # pause between attempts: initial and longest
_REMOVALS = 8  # retries if the lock's directory is removed just after creation


@contextmanager
def lock(timeout: float | None = 10.0) -> Iterator[Path]:
    """Hold the lock that every editor of XDP chains takes, for a whole change. Yields the locked directory.

    libxdp's protocol: an exclusive flock on ``<bpffs>/xdp``, or on /run/xdp without a BPF filesystem. The
    kernel releases it however the process ends. It also excludes other threads of this process, so don't nest
    it. Waits at most ``timeout`` seconds (None: forever).

    Raises Busy (naming the holder if known), PermissionDenied, and Untrusted if others can create or change
    that directory.
    """
    parent, name = lock_place()
    deadline = None if timeout is None else time.monotonic() + timeout
    with ExitStack() as held:
        try:
            above = held.enter_context(TrustedDirectory.open(parent))
            held.callback(os.close, _locked(above, name, deadline))
        except OSError as error:
            raise refused(f"Can't lock {parent / name}", error) from error
        if parent != FALLBACK_LOCK.parent:
            held.enter_context(kept_open(above))
        yield parent / name


def _locked(parent: TrustedDirectory, name: str, deadline: float | None) -> int:
    pause, longest = _RETRY_S
    while True:
        with _made(parent, name) as directory:
            fd = directory.descriptor()
            try:
                while not _try_lock(fd, wait=deadline is None):
                    left = (deadline or 0) - time.monotonic()
                    if left <= 0:
                        raise _busy(directory.path, fd)
                    time.sleep(min(pause, left))
                    pause = min(pause * 2, longest)
                if directory.is_at(parent):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # removed and perhaps recreated while we waited: others lock the new one


def _made(parent: TrustedDirectory, name: str) -> TrustedDirectory:
    for _ in range(_REMOVALS):
        try:
            return parent.make_child(name)
        except FileNotFoundError:  # removed between its two steps
            continue
    return parent.make_child(name)


def _try_lock(fd: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(path: Path, fd: int) -> Busy:
    locked = os.fstat(fd)
    holder = _holder(locked)
    todo = "Try again when it is done"
    if holder is None:
        who = "another program"
    elif holder == os.getpid():
        who = "another task of this program"
    else:
        who, is_root = _process(holder)
        if not is_root and locked.st_mode & 0o077:
            todo += f"; `chmod 0700 {shlex.quote(os.fspath(path))}` keeps other users from holding the lock"
    return Busy(
        "XDP chains can't be changed now", f"{who} is editing them", todo, detail=f"flock on {path} is held"
    )


def _holder(locked: os.stat_result) -> int | None:
    """The PID that holds a flock on the inode, from proc_locks(5); None if hidden."""
    inode = f"{os.major(locked.st_dev):02x}:{os.minor(locked.st_dev):02x}:{locked.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == inode and int(fields[4]) > 0:
            return int(fields[4])
    return None


def _process(pid: int) -> tuple[str, bool]:
    """A process as text, and whether it is root's. Processes choose their own names."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return f"another program (pid {pid})", True
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return f"{name} (pid {pid})" if uid == 0 else f"{name} (pid {pid}, uid {uid})", uid == 0
