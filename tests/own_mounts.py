# SPDX-License-Identifier: Apache-2.0
"""Private mounts for one test run: its BPF filesystem, named network namespaces, lock and state folder.

What other runs, other chains and `xdptui clean` on this machine keep there is invisible from here, and ours
to them; all of it is gone with the last process of the run, however that ended. Programs, maps and processes
are not isolated this way: tests identify their own by descriptor, pin and interface.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

__all__ = ["BPFFS", "CannotIsolate", "enter", "unshare"]

CLONE_NEWNS = 0x00020000
MS_REC, MS_SLAVE = 0x4000, 1 << 19
MNT_DETACH = 2

BPFFS = Path("/sys/fs/bpf")
OWN = (
    ("bpf", str(BPFFS), 0o700),
    ("tmpfs", "/run/netns", 0o755),
    ("tmpfs", "/run/xdp", 0o700),
    ("tmpfs", "/var/lib/xdptui", 0o700),
)
"""Type, place and mode of each mount; missing folders are created."""

ELSEWHERE = ("LIBXDP_BPFFS", "LIBXDP_BPFFS_AUTOMOUNT", "XDPTUI_STATE")
"""Variables that would point outside."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


class CannotIsolate(Exception):
    """This process can't have private mounts; the text says why."""


def enter() -> None:
    """Move this process and all its future children there. Raises CannotIsolate, and OSError for a mount.

    Threads already running would stay outside, so there must be none, except the one in which a pytest-xdist
    worker listens to its controller.
    """
    if os.geteuid() != 0:
        raise CannotIsolate("needs root")
    if len(os.listdir("/proc/self/task")) > 1 + ("PYTEST_XDIST_WORKER" in os.environ):
        raise CannotIsolate("the test run has threads already, which would keep this machine's mounts")
    try:
        unshare()
    except OSError as error:
        raise CannotIsolate(
            f"needs root that may mount (CAP_SYS_ADMIN): unshare says {error.strerror}"
        ) from error
    # Our copies of these would keep alive what others remove.
    for place in reversed(_mounted("bpf", "nsfs")):
        _libc.umount2(os.fsencode(place), MNT_DETACH)  # fails if another mount hides it
    for kind, place, mode in OWN:
        if kind != "bpf":
            Path(place).mkdir(mode=mode, parents=True, exist_ok=True)
        options = f"mode={mode:04o}".encode()
        _checked(_libc.mount(kind.encode(), place.encode(), kind.encode(), 0, options), place)
    for name in ELSEWHERE:
        os.environ.pop(name, None)


def unshare() -> None:
    """From now on this process's mounts and unmounts are private; the machine's still propagate in. Raises
    OSError.
    """
    _checked(_libc.unshare(CLONE_NEWNS), "unshare")
    _checked(_libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None), "/")


def _mounted(*kinds: str) -> list[str]:
    """Where filesystems of these types are mounted, in the order of mounting."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] in kinds:
            place = before.split(" ")[4]
            found.append(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place))
    return found


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
