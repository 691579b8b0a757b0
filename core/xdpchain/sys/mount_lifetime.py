# SPDX-License-Identifier: Apache-2.0
"""Does a BPF filesystem outlive the command that uses it?

Each ``mount -t bpf`` makes a filesystem of its own, which goes with its last mount, and a mount namespace
goes with its last process. `ip netns exec`, `unshare --mount` and containers make one. When the pins go, so
do the programs, links and entries of program arrays that nothing else holds, and the tail of a chain.
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
_DAEMON = "xdptui-guardia"  # a process of ours that ends soon; the kernel keeps 15 characters
_made: set[int] = set()


def made_here(path: Path) -> None:
    """Note that this process mounted the filesystem at ``path`` just now: nobody outside has it yet."""
    _made.add(path.stat().st_dev)


def require_lasting(path: Path, what: str, instead: str = "") -> None:
    """Raise Unsupported if what is pinned below ``path`` would end with this command; ``instead`` is a way
    that needs no pins.
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

    From a PID namespace of its own (a container) the host's mounts can't be seen: there that is told only of
    a filesystem that this process mounted. Raises OSError for a path that is not there.
    """
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    if is_initial("pid"):
        with contextlib.suppress(OSError):
            if _has(1, wanted):  # the machine itself, as nearly always: no need to look at all processes
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
                judged[namespace] = _has(pid, wanted)
        except OSError:  # gone, or a kernel thread
            continue
        if judged[namespace]:
            return False
    return not _kept_by_a_mount()


def _has(pid: int, device: str) -> bool:
    lines = (_PROC / str(pid) / "mountinfo").read_text(errors="surrogateescape").splitlines()
    return any(line.split(" ", 3)[2] == device for line in lines)


def _kept_by_a_mount() -> bool:
    """Whether the mount namespace itself is mounted somewhere (`unshare --mount=FILE`), and so stays."""
    try:
        own = os.readlink(_PROC / "self/ns/mnt")
        return f" {own} " in (_PROC / "1/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return False


def _family() -> frozenset[int]:
    """The processes that end with us, or that we end with: ancestors, descendants, session, guardians."""
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
        # The machine's first process is everybody's ancestor, and ends with the machine.
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
