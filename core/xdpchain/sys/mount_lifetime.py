# SPDX-License-Identifier: Apache-2.0
"""Does a BPF filesystem outlive the command that uses it?

Each ``mount -t bpf`` creates a new filesystem, which disappears with its last mount; a mount namespace
disappears with its last process. `ip netns exec`, `unshare --mount` and containers create one. When the pins
go, so do programs, links and program array entries that nothing else holds: the rest of a chain.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from xdpchain.errors import Unsupported

from .namespaces import is_initial

__all__ = ["ends_with_us", "made_here", "require_lasting"]

_PROC = Path("/proc")
_DAEMON = "xdptui-guardia"  # our guardian, which ends soon; the kernel keeps 15 characters
_made: set[int] = set()
_others: list[int] = []
"""The process that had a filesystem mounted besides us the last time: asked first."""


def made_here(path: Path) -> None:
    """Note that this process has just mounted the filesystem at ``path``: nobody else has it yet."""
    _made.add(path.stat().st_dev)


def require_lasting(path: Path, what: str, instead: str = "") -> None:
    """Raise Unsupported if pins below ``path`` would disappear with this command. ``instead`` describes an
    alternative that needs no pins.
    """
    if ends_with_us(path):
        raise Unsupported(
            f"{what} can't be pinned in {path}",
            "this BPF filesystem is mounted only for this command and its session (by `ip netns "
            "exec`, `unshare --mount` or a container), so its pins would be lost with them",
            "Nothing was changed. Run xdptui outside, with --netns NAME; or set LIBXDP_BPFFS "
            f"to a permanent mount{f'; or {instead}' if instead else ''}",
        )


def ends_with_us(path: Path) -> bool:
    """Whether only this process, its ancestors, descendants and session have the filesystem mounted.

    Inside a PID namespace (a container) the host's mounts are hidden, so there the answer is true only for a
    filesystem that this process mounted. Raises OSError if the path does not exist.
    """
    device = path.stat().st_dev
    device_number = f"{os.major(device)}:{os.minor(device)}"
    if is_initial("pid"):
        with contextlib.suppress(OSError):
            if _has(1, device_number):  # PID 1 has it, as nearly always: skip the other processes
                return False
    elif device not in _made:
        return False
    above, session = _above(), os.getsid(0)
    judged: dict[str, bool] = {}
    for pid in (*_others, *_pids()):
        try:
            namespace = os.readlink(_PROC / str(pid) / "ns/mnt")
            if namespace not in judged:
                judged[namespace] = _has(pid, device_number)
            if judged[namespace] and not _ends_with_us(pid, above, session):
                _others[:] = [pid]
                return False
        except OSError:  # gone, or a kernel thread
            continue
    return not _kept_by_a_mount()


def _has(pid: int, device: str) -> bool:
    lines = (_PROC / str(pid) / "mountinfo").read_text(errors="surrogateescape").splitlines()
    return any(line.split(" ", 3)[2] == device for line in lines)


def _kept_by_a_mount() -> bool:
    """Whether the mount namespace is itself bind-mounted (`unshare --mount=FILE`), which keeps it alive."""
    try:
        own = os.readlink(_PROC / "self/ns/mnt")
        return f" {own} " in (_PROC / "1/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return False


class _Process(NamedTuple):
    name: str
    parent: int
    session: int


def _process(pid: int) -> _Process:
    """Raises OSError if it is gone."""
    before, _, after = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
    fields = after.split()
    return _Process(before.partition("(")[2], int(fields[1]), int(fields[3]))


def _above() -> frozenset[int]:
    """Our ancestors. The machine's init is everyone's and outlives us, so it is none of them."""
    above = frozenset(_line(os.getppid()))
    return above - {1} if is_initial("pid") else above


def _line(pid: int) -> Iterator[int]:
    """A process and its ancestors."""
    seen: set[int] = set()
    while pid and pid not in seen:
        seen.add(pid)
        yield pid
        try:
            pid = _process(pid).parent
        except OSError:
            return


def _ends_with_us(pid: int, above: frozenset[int], session: int) -> bool:
    """Whether the process's lifetime is tied to ours: an ancestor or descendant, in our ``session``, or
    a guardian. Raises OSError if it is gone.
    """
    process, us = _process(pid), os.getpid()
    if process.session == session or process.name.startswith(_DAEMON) or pid in above:
        return True
    return us in _line(pid)


def _pids() -> Iterator[int]:
    for name in os.listdir(_PROC):
        if name.isdigit():
            yield int(name)
