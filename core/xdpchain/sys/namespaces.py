# SPDX-License-Identifier: Apache-2.0
"""Is a namespace of this process the machine's own, or one that ends with somebody's process?"""

from __future__ import annotations

import os

__all__ = ["is_initial", "pids_outlive_us"]

# linux/proc_ns.h: the inode numbers of the first namespaces are fixed.
_INITIAL = {"pid": 0xEFFFFFFC, "cgroup": 0xEFFFFFFB, "time": 0xEFFFFFFA}


def is_initial(kind: str, entry: str = "") -> bool | None:
    """Whether the namespace of this kind (``entry``: another name of it in /proc/self/ns, such as that of its
    children) is the one that the machine booted with; None if that can't be read.
    """
    try:
        return os.stat(f"/proc/self/ns/{entry or kind}").st_ino == _INITIAL[kind]
    except OSError:
        return None


def pids_outlive_us() -> bool:
    """Whether a daemon that we start can live until the machine goes down: the kernel kills everything in a
    PID namespace together with its first process.
    """
    return all(is_initial("pid", entry) for entry in ("pid", "pid_for_children"))
