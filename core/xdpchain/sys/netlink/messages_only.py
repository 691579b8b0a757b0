# SPDX-License-Identifier: Apache-2.0
"""Import single modules of a package without the rest of it.

``import pyroute2.netlink.rtnl.ifinfmsg`` runs pyroute2's ``__init__``, which imports all of pyroute2: 163
modules for the three that are used.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["messages_only"]


@contextmanager
def messages_only(package: str) -> Iterator[None]:
    """Inside this context, ``import PACKAGE.MODULE`` does not run the package's ``__init__``.

    Afterwards ``import PACKAGE`` runs it as usual. Does nothing if the package is already imported.
    """
    if package in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[package]
