# SPDX-License-Identifier: Apache-2.0
"""Is a namespace of this process the machine's initial one, or does it end with some process?"""

from __future__ import annotations

import os

__all__ = ["is_initial", "pids_outlive_us"]

# linux/proc_ns.h: the inode numbers of the first namespaces are fixed.
_INITIAL = {"pid": 0xEFFFFFFC, "cgroup": 0xEFFFFFFB, "time": 0xEFFFFFFA}


def is_initial(kind: str, entry: str = "") -> bool | None:
    """Whether this process is in the initial namespace of this kind; None if that can't be read. ``entry`` is
    another file in /proc/self/ns to look at, such as ``pid_for_children``.
    """
    try:
        return os.stat(f"/proc/self/ns/{entry or kind}").st_ino == _INITIAL[kind]
    except OSError:
        return None


def pids_outlive_us() -> bool:
    """Whether a daemon started by us can run until shutdown: when the first process of a PID namespace ends,
    the kernel kills all others in it.
    """
    return all(is_initial("pid", entry) for entry in ("pid", "pid_for_children"))
