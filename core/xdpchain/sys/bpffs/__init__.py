# SPDX-License-Identifier: Apache-2.0
"""The BPF filesystem, as libxdp's protocol uses it: which mount, the lock, and the pins of each dispatcher.

Everything lives in ``<bpffs>/xdp``: a directory ``dispatch-<ifindex>-<program id>`` for each dispatcher, with
the pins of its slots, and the directory itself is what editors lock. LIBXDP_BPFFS names the mount to use,
LIBXDP_BPFFS_AUTOMOUNT=1 allows to mount it. What lies below is reached through `TrustedDirectory` only.
"""

from __future__ import annotations

from .editing_lock import lock
from .mounting import (
    SUBDIRECTORY,
    BpffsMissing,
    directory_of,
    distrusted,
    find,
    is_bpffs,
    mount,
    mount_command,
    mounts,
    open_below,
)
from .pin_directories import (
    DispatchDir,
    dispatch_dir,
    dispatch_dirs,
    make_dispatch_dir,
    open_dispatch_dir,
    pins,
    remove_dispatch_dir,
)

__all__ = [
    "SUBDIRECTORY",
    "BpffsMissing",
    "DispatchDir",
    "directory_of",
    "dispatch_dir",
    "dispatch_dirs",
    "distrusted",
    "find",
    "is_bpffs",
    "lock",
    "make_dispatch_dir",
    "mount",
    "mount_command",
    "mounts",
    "open_below",
    "open_dispatch_dir",
    "pins",
    "remove_dispatch_dir",
]
