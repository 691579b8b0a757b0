# SPDX-License-Identifier: Apache-2.0
"""Ending commands that run until interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["until_told"]


@contextlib.contextmanager
def until_told(stop: threading.Event) -> Iterator[None]:
    """Make ctrl-C and SIGTERM set ``stop`` instead of ending the program."""
    before = {}
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            before[signum] = signal.signal(signum, lambda *_: stop.set())
    except ValueError:  # not in the main thread, which alone gets signals
        pass
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
