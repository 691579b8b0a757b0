# SPDX-License-Identifier: Apache-2.0
"""Who is trusted with files, directories and links: root, this user, and, where the operator named the path,
the user who called sudo.
"""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["check_owner", "check_private", "is_ours", "others_write"]


def is_ours(found: os.stat_result) -> bool:
    """Whether it belongs to root or this user."""
    return found.st_uid in (0, os.geteuid())


def others_write(found: os.stat_result, *, sticky: bool = False) -> bool:
    """Whether others can change it. ``sticky``: a directory with the sticky bit, like /tmp, is good enough,
    since others who can create names there can't rename or remove ours.
    """
    return bool(found.st_mode & 0o022) and not (sticky and found.st_mode & stat.S_ISVTX)


def check_owner(found: os.stat_result, why: str, path: str) -> None:
    """Raise PermissionError, with ``why``, unless it is ours or belongs to the user who called sudo."""
    caller = os.environ.get("SUDO_UID", "")
    by_sudo = os.geteuid() == 0 and caller.isascii() and caller.isdecimal() and found.st_uid == int(caller)
    if not is_ours(found) and not by_sudo:
        raise PermissionError(errno.EACCES, why, path)


def check_private(path: str) -> str:
    """The path with links resolved, if only those can change or replace the file. Directories above the
    file's own may have the sticky bit. Raises PermissionError, OSError.
    """
    real = os.path.realpath(path, strict=True)
    place, folder = real, os.path.dirname(real)
    while True:
        found = os.stat(place)
        check_owner(found, f"{place} belongs to uid {found.st_uid}", path)
        if others_write(found, sticky=place not in (real, folder)):
            mode = stat.S_IMODE(found.st_mode)
            raise PermissionError(errno.EACCES, f"others can write to {place} (mode {mode:04o})", path)
        if place == "/":
            return real
        place = os.path.dirname(place)
