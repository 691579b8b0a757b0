# SPDX-License-Identifier: Apache-2.0
"""Ending commands that run until interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

__all__ = ["handling", "until_told"]

Handler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def handling(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Handle these signals so meanwhile. In other threads than the main one, which alone gets signals, it
    does nothing.
    """
    here = threading.current_thread() is threading.main_thread()
    before = {signum: signal.signal(signum, handlers[signum]) for signum in handlers if here}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def until_told(stop: threading.Event) -> contextlib.AbstractContextManager[None]:
    """Make ctrl-C and SIGTERM set ``stop`` instead of ending the program."""
    return handling(dict.fromkeys((signal.SIGINT, signal.SIGTERM), lambda *_: stop.set()))
