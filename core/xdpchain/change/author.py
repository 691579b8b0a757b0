# SPDX-License-Identifier: Apache-2.0
"""Describe this process for manifests and the journal."""

from __future__ import annotations

import getpass
import os
import sys
import time
from functools import cache

from xdpchain.model.manifest import Author

__all__ = ["current_author"]


def current_author() -> Author:
    """The user (behind sudo), our PID, and the command line, truncated to 200 characters."""
    user = os.environ.get("SUDO_USER") or _user(os.getuid())
    command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:200] if sys.argv else "python"
    return Author(user, os.getpid(), command, time.time())


@cache
def _user(uid: int) -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(uid)
