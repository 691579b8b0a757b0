# SPDX-License-Identifier: Apache-2.0
"""Maps that an object file wants pinned by name, so that other programs find them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from xdpchain.sys import bpf

__all__ = ["pin_map"]


def pin_map(fd: bpf.Fd, path: str) -> Callable[[], None]:
    """Pin the map, and return what takes the pin back. Raises KernelRefused, PermissionDenied."""
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        bpf.obj_pin(fd, path)
    except OSError as error:
        if error.errno == errno.EEXIST:  # two slots of one instance share the map
            return lambda: None
        raise bpf.refusal(error, f"a map can't be pinned at {path}") from error
    return lambda: Path(path).unlink(missing_ok=True)
