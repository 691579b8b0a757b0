# SPDX-License-Identifier: Apache-2.0
"""Isolate the guardian from whatever would end it with the session or service that started it, and detect
before the change what it can't escape.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
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
"""Two real-time signals that the C library reserves and does not let programs ignore."""

_FSOPEN, _FSCONFIG, _FSMOUNT, _CREATE = 430, 431, 432, 6
"""Syscalls for detached mounts (kernel 5.2 and later): the numbers are the same on all architectures."""

_HIERARCHIES = ("", "name=systemd")
"""The cgroup hierarchies used to end services and sessions: version 2, and systemd's of version 1."""


class Confined(Exception):
    """The guardian can't escape something that will end it; the text says what."""


def require_freedom(instead: str) -> None:
    """Raise Unsupported if a guardian started here would not survive until shutdown, or would see a different
    clock; ``instead`` describes an alternative without a guardian.
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
    """Ignore all signals except SIGKILL and SIGSTOP."""
    for signum in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(signum, signal.SIG_IGN)
    call = _RT_SIGACTION.get(os.uname().machine)
    if call is not None:
        ignore = ctypes.create_string_buffer(int(signal.SIG_IGN).to_bytes(8, "little"), 32)
        for kept in _LIBRARY_SIGNALS:
            _libc.syscall(call, kept, ignore, None, 8)


def lift_limits() -> None:
    """Remove the CPU time limit, which would end in SIGKILL."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def leave_cgroup(starter: int) -> None:
    """Move to the root cgroup, unless this process is already outside the cgroups of ``starter`` (in its own
    scope). Raises Confined.
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
    """The cgroup of a process in each relevant hierarchy; empty if the process is gone."""
    groups = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in _HIERARCHIES:
                groups[controllers] = path
    return groups


def _move_by_mount(hierarchy: str) -> None:
    """Move this process to the root of a hierarchy, through an existing mount."""
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
    """As `_move_by_mount`, through a detached mount: `ip netns exec` hides mounts below /sys."""
    if hierarchy != "":
        return
    with contextlib.ExitStack() as held:

        def fd_of(call: int, *arguments: object) -> int:
            fd = int(_libc.syscall(call, *arguments))
            if fd < 0:
                raise OSError(ctypes.get_errno(), "no such mount")
            held.callback(os.close, fd)
            return fd

        with contextlib.suppress(OSError):
            filesystem = fd_of(_FSOPEN, b"cgroup2", 0)
            if _libc.syscall(_FSCONFIG, filesystem, _CREATE, None, None, 0) == 0:
                root = fd_of(_FSMOUNT, filesystem, 0, 0)
                procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=root)
                held.callback(os.close, procs)
                os.write(procs, b"0")
