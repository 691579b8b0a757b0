# SPDX-License-Identifier: Apache-2.0
"""Find an object file given by name only, as libxdp's tools do.

Such a file runs in the kernel without the operator having named its path, so it is accepted only if nobody
but root and this user could have put it there.
"""

from __future__ import annotations

import errno
import os
import sysconfig
from collections.abc import Iterator

from xdpchain.errors import NotFound, PermissionDenied
from xdpchain.file_trust import check_private

__all__ = ["find_object"]

VARIABLE = "LIBXDP_OBJECT_PATH"
FOLDERS = ("/usr/local/lib/bpf", "/usr/lib64/bpf", "/usr/lib/bpf")


def find_object(written: str, folder: str = "") -> str:
    """The path that ``written`` means in ``folder``. A name without a slash that is not there is searched in
    LIBXDP_OBJECT_PATH and in the folders where packages install object files.

    Raises NotFound, which lists these; PermissionDenied for a file that others could have put there.
    """
    path = os.path.join(folder, written)
    if not written or "/" in written or not _absent(path):
        return path
    searched = list(dict.fromkeys(_folders()))
    for place in searched:
        found = os.path.join(place, written)
        if os.path.lexists(found):
            return _trusted(found)
    raise NotFound(
        f"{written if written.isprintable() else repr(written)} can't be read",
        f"{os.strerror(errno.ENOENT)}, neither in {folder or 'this folder'} nor in {', '.join(searched)}",
        "Check the path",
    )


def _absent(path: str) -> bool:
    """Whether nothing is there; invalid paths are left for open() to report."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        pass
    return False


def _folders() -> Iterator[str]:
    if chosen := os.environ.get(VARIABLE):
        yield os.path.abspath(chosen)
    if architecture := sysconfig.get_config_var("MULTIARCH"):
        yield f"/usr/lib/{architecture}/bpf"
    yield from FOLDERS


def _trusted(path: str) -> str:
    try:
        return check_private(path)
    except OSError as error:
        raise PermissionDenied(
            f"{path} is not used by its bare name",
            error.strerror or str(error),
            "Give its path if it is the one you mean",
        ) from error
