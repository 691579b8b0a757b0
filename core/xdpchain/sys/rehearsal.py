# SPDX-License-Identifier: Apache-2.0
"""A call that may crash, made first in a copy of this process: libbpf dereferences what an odd object makes
it believe, and a crash would take the terminal along, or leave a change half made.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import select
import signal
import warnings
from collections.abc import Callable

from xdpchain.errors import Unsupported

from .libbpf import library

__all__ = ["rehearse"]

SECONDS = 60.0
"""For a load that hangs."""


def rehearse(call: Callable[[], object], what: str) -> None:
    """Make the call in a forked copy of this process; what it raises there, it will raise here, too. Raises
    Unsupported where it crashes or hangs; ``what`` is named in that. A fork takes some milliseconds.
    """
    with library().lock, warnings.catch_warnings():  # held, so that no other thread's call is cut in two
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: only this one goes on
        child = os.fork()
        if not child:
            _play(call)
    status = _ended(child)
    if status is None:
        raise _refused(what, f"it did not finish within {SECONDS:.0f} s")
    if os.WIFSIGNALED(status):
        raise _refused(what, f"it crashed ({signal.Signals(os.WTERMSIG(status)).name})")


def _play(call: Callable[[], object]) -> None:
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with contextlib.suppress(BaseException):
            call()
    finally:
        os._exit(0)


def _ended(child: int) -> int | None:
    """How the child ended; None where it had to be killed."""
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = poll.poll(SECONDS * 1000)
        if not ended:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    finally:
        os.close(pidfd)
    return status if ended else None


def _refused(what: str, why: str) -> Unsupported:
    todo = "Remove programs of other types and their maps from the object, or use a newer libbpf"
    return Unsupported(f"libbpf can't load {what}", f"{why}, in a test process", todo)
