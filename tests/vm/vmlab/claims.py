# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: of the files of tests, run those that no other guest has begun.

Active in guests that share a selection: `XDPTUI_LAB_CLAIMS` is a folder that all of them write to, where
whoever comes first makes a folder for a file of tests.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest

__all__ = ["pytest_runtest_protocol"]


@functools.cache
def _ours(file: str) -> bool:
    try:
        (Path(os.environ["XDPTUI_LAB_CLAIMS"]) / file.replace("/", "-")).mkdir()
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: Any) -> bool | None:
    return None if _ours(str(item.path.relative_to(item.config.rootpath))) else True
