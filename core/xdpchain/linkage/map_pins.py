# SPDX-License-Identifier: Apache-2.0
"""Maps that an object file wants pinned by name, so that other programs can find them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path

from xdpchain.sys import bpf, bpffs

__all__ = ["pin_map", "pinned_map"]


def pin_map(fd: bpf.Fd, path: str) -> Callable[[], None]:
    """Pin the map; returns a function that removes the pin. Raises KernelRefused, PermissionDenied,
    Untrusted.
    """
    place = Path(path)
    try:
        with bpffs.directory_of(place, make=True) as directory:
            directory.pin(place.name, fd)
    except OSError as error:
        if error.errno == errno.EEXIST:  # two slots of one instance share the map
            return lambda: None
        raise bpf.refusal(error, f"a map can't be pinned at {path}") from error
    return lambda: _unpin(place)


def pinned_map(path: str) -> bpf.Fd:
    """The map pinned there. Raises BpfError (ENOENT if there is none), Untrusted if another user pinned it or
    could have.
    """
    place = Path(path)
    try:
        with bpffs.directory_of(place) as directory:
            return directory.get(place.name)
    except FileNotFoundError as error:
        raise bpf.BpfError(errno.ENOENT, bpf.Command.OBJ_GET) from error


def _unpin(place: Path) -> None:
    with contextlib.suppress(FileNotFoundError), bpffs.directory_of(place) as directory:
        directory.unlink(place.name)
