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

from xdpchain.errors import Unsupported

from .namespaces import is_initial

__all__ = ["ends_with_us", "made_here", "require_lasting"]

_PROC = Path("/proc")
_DAEMON = "xdptui-guardia"  # our guardian, which ends soon; the kernel keeps 15 characters
_made: set[int] = set()


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
    family = _family()
    judged: dict[str, bool] = {}
    for pid in _pids():
        if pid in family:
            continue
        try:
            namespace = os.readlink(_PROC / str(pid) / "ns/mnt")
            if namespace not in judged:
                judged[namespace] = _has(pid, device_number)
        except OSError:  # gone, or a kernel thread
            continue
        if judged[namespace]:
            return False
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


def _family() -> frozenset[int]:
    """The processes whose lifetime is tied to ours: ancestors, descendants, session, guardians."""
    session = os.getsid(0)
    parents: dict[int, int] = {}
    family = {os.getpid()}
    for pid in _pids():
        try:
            before, _, after = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
        except OSError:
            continue
        fields = after.split()
        parents[pid] = int(fields[1])
        if int(fields[3]) == session or before.partition("(")[2].startswith(_DAEMON):
            family.add(pid)
    above = os.getpid()
    while above := parents.get(above, 0):
        # The machine's init is everyone's ancestor and outlives us.
        if above != 1 or not is_initial("pid"):
            family.add(above)
    return frozenset(family | {pid for pid in parents if _descends(pid, parents)})


def _descends(pid: int, parents: dict[int, int]) -> bool:
    seen = set()
    while pid and pid not in seen:
        seen.add(pid)
        if pid == os.getpid():
            return True
        pid = parents.get(pid, 0)
    return False


def _pids() -> Iterator[int]:
    for name in os.listdir(_PROC):
        if name.isdigit():
            yield int(name)
