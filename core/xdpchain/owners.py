# SPDX-License-Identifier: Apache-2.0
"""Whose files and links are trusted: root's, this user's, and, under sudo, those of the user who
called it.
"""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["check_owner", "check_private"]


def _operator() -> set[int]:
    """Whose links root follows: its own, and those of the user who called it by sudo."""
    ours, caller = {0, os.geteuid()}, os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and caller.isascii() and caller.isdecimal():
        ours.add(int(caller))
    return ours


def check_owner(found: os.stat_result, why: str, path: str) -> None:
    if found.st_uid not in _operator():
        raise PermissionError(errno.EACCES, why, path)


def check_private(path: str) -> str:
    """The path with links resolved, if only root and this user can change or replace the file. Directories
    above the file's own may have the sticky bit, like /tmp: others who can create names there can't rename or
    remove ours. Raises PermissionError, OSError.
    """
    real = os.path.realpath(path, strict=True)
    place, folder = real, os.path.dirname(real)
    while True:
        found = os.stat(place)
        check_owner(found, f"{place} belongs to uid {found.st_uid}", path)
        sticky = found.st_mode & stat.S_ISVTX and place not in (real, folder)
        if found.st_mode & 0o022 and not sticky:
            mode = stat.S_IMODE(found.st_mode)
            raise PermissionError(errno.EACCES, f"others can write to {place} (mode {mode:04o})", path)
        if place == "/":
            return real
        place = os.path.dirname(place)
