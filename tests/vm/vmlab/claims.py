# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: runs those test files that no other guest has begun.

Active in guests that share a selection: `XDPTUI_LAB_CLAIMS` is a folder that all of them write to, in which
the first to come creates a folder for a test file.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

__all__ = ["pytest_runtestloop"]


@functools.cache
def _ours(file: str) -> bool:
    try:
        (Path(os.environ["XDPTUI_LAB_CLAIMS"]) / file.replace("/", "-")).mkdir()
    except FileExistsError:
        return False
    return True


def pytest_runtestloop(session: Any) -> bool:
    """Like pytest's own, except for what others run. Each test is told the next one, which decides what is
    torn down: so a file is claimed when the last test of the previous one begins.
    """
    root = session.config.rootpath
    ours = (item for item in session.items if _ours(str(item.path.relative_to(root))))
    item = next(ours, None)
    while item is not None:
        following = next(ours, None)
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True
