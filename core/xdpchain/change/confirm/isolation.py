# SPDX-License-Identifier: Apache-2.0
"""What a guardian has to get out of, lest it end with the session or the service that started it; and what it
can't get out of, which has to be known before anything is changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
from pathlib import Path

from xdpchain.errors import Unsupported
from xdpchain.sys.boot_clock import unknown_offset
from xdpchain.sys.namespaces import is_initial, pids_outlive_us

__all__ = ["Confined", "ignore_signals", "leave_cgroup", "lift_limits", "require_freedom"]

_libc = ctypes.CDLL(None, use_errno=True)

_RT_SIGACTION = {"x86_64": 13, "aarch64": 134, "riscv64": 134}
_LIBRARY_SIGNALS = (32, 33)
"""Two real-time signals that the C library keeps for itself, and lets nobody ignore."""

_FSOPEN, _FSCONFIG, _FSMOUNT, _CREATE = 430, 431, 432, 6
"""Mounts without a place (kernel 5.2 on): the numbers are the same everywhere."""

_HIERARCHIES = ("", "name=systemd")
"""The control group hierarchies by which services and sessions are ended: version 2, and systemd's of 1."""


class Confined(Exception):
    """The guardian can't leave what will end it; the text says what."""


def require_freedom(instead: str) -> None:
    """Raise Unsupported where a guardian that we start would end before the machine does, or would tell
    another time than others; ``instead`` is a way that needs none.
    """
    if not pids_outlive_us():
        raise Unsupported(
            "the rollback can't be armed",
            "this process is in a separate PID namespace (a container, or `unshare --pid`): when its "
            "first process ends, the kernel kills them all, including the guardian that would roll back",
            "Nothing was changed. Run xdptui on the host with --netns, or in its PID namespace "
            f"(`docker run --pid=host`); or {instead}",
        )
    if why := unknown_offset():
        raise Unsupported(
            "the rollback can't be armed",
            f"{why}: their clocks would differ",
            "Nothing was changed. Start xdptui as a new process in one time namespace or the other",
        )


def ignore_signals() -> None:
    """Ignore what can be ignored: everything but SIGKILL and SIGSTOP."""
    for signum in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(signum, signal.SIG_IGN)
    call = _RT_SIGACTION.get(platform.machine())
    if call is not None:
        ignore = ctypes.create_string_buffer(int(signal.SIG_IGN).to_bytes(8, "little"), 32)
        for kept in _LIBRARY_SIGNALS:
            _libc.syscall(call, kept, ignore, None, 8)


def lift_limits() -> None:
    """No limit of processor time, which ends in SIGKILL."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def leave_cgroup(starter: int) -> None:
    """Move to the root of the control groups, unless we are outside those of the process ``starter`` already
    (in a scope of our own). Raises Confined.
    """
    for hierarchy, theirs in _memberships(starter).items():
        if theirs == "/" or not _within(hierarchy, theirs):
            continue
        for move in (_move_by_mount, _move_by_new_mount):
            if _within(hierarchy, theirs):
                move(hierarchy)
        if _within(hierarchy, theirs):
            raise Confined(f"it can't leave the control group {theirs}, and would be killed with it")
    if is_initial("cgroup") is False:
        raise Confined(
            "it is in a separate control group namespace (a container), and would be killed with it"
        )


def _within(hierarchy: str, group: str) -> bool:
    return f"{_memberships(os.getpid()).get(hierarchy, '/')}/".startswith(f"{group}/")


def _memberships(pid: int) -> dict[str, str]:
    """The control group of a process in each hierarchy that matters; nothing of a process that is gone."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in _HIERARCHIES:
                found[controllers] = path
    return found


def _move_by_mount(hierarchy: str) -> None:
    """Move this process to the root of a hierarchy, where that is mounted."""
    kind = "cgroup2" if hierarchy == "" else "cgroup"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            fields, (filesystem, _, options) = before.split(" "), after.split(" ")
            named = not hierarchy or hierarchy in options.split(",")
            if filesystem == kind and named and fields[3] == "/":
                with contextlib.suppress(OSError):
                    Path(fields[4], "cgroup.procs").write_text("0")


def _move_by_new_mount(hierarchy: str) -> None:
    """The same through a mount that nobody sees: `ip netns exec` hides what was mounted below /sys."""
    if hierarchy != "":
        return
    with contextlib.ExitStack() as held:

        def fd_of(call: int, *arguments: object) -> int:
            number = int(_libc.syscall(call, *arguments))
            if number < 0:
                raise OSError(ctypes.get_errno(), "no such mount")
            held.callback(os.close, number)
            return number

        with contextlib.suppress(OSError):
            made = fd_of(_FSOPEN, b"cgroup2", 0)
            if _libc.syscall(_FSCONFIG, made, _CREATE, None, None, 0) == 0:
                root = fd_of(_FSMOUNT, made, 0, 0)
                procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=root)
                held.callback(os.close, procs)
                os.write(procs, b"0")
