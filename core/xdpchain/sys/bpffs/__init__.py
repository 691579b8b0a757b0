# SPDX-License-Identifier: Apache-2.0
"""The BPF filesystem as used by libxdp's protocol: the mount, the lock, and the pins of each dispatcher.

Everything is in ``<bpffs>/xdp``, which editors lock: a directory ``dispatch-<ifindex>-<program id>`` for each
dispatcher holds the pins of its slots. LIBXDP_BPFFS names the mount to use, and LIBXDP_BPFFS_AUTOMOUNT=1
allows mounting it. Everything below is accessed only through `TrustedDirectory`.
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
