# SPDX-License-Identifier: Apache-2.0
"""Try a call that may crash in a forked process first: libbpf can crash on malformed objects, which would
take down the terminal or leave a change half done.
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
"""Timeout for a load that hangs."""


def rehearse(call: Callable[[], object], what: str) -> None:
    """Make the call in a forked copy of this process. Exceptions there are ignored: the real call will
    raise them. Raises Unsupported, naming ``what``, if it crashes or hangs. A fork takes milliseconds.
    """
    with library().lock, warnings.catch_warnings():  # locked, so that no other thread is mid-call
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: only this one goes on
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
    """The child's wait status; None if it had to be killed."""
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
