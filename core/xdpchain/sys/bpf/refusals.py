# SPDX-License-Identifier: Apache-2.0
"""Translate refused system calls to the engine's errors."""

from __future__ import annotations

import errno
import os

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import KernelRefused, NotFound, PermissionDenied, Unsupported, XdpChainError

__all__ = ["refusal"]


def refusal(error: OSError, what: str, todo: str | Advice = "", *, log: str = "") -> XdpChainError:
    """The engine's error for a refused system call: ``what`` failed, with the kernel's reason and message.

    EPERM and EACCES become PermissionDenied unless there is a verifier log, ENOENT NotFound, and the errors
    of kernels without the feature (such as EOPNOTSUPP) Unsupported.
    """
    log = log or getattr(error, "log", "")
    words = "\n".join(part for part in (str(error), log.rstrip()) if part)
    name = errno.errorcode.get(error.errno or 0, "?")
    why = f"{os.strerror(error.errno or 0)} ({name})"
    if error.errno == errno.EPERM or (error.errno == errno.EACCES and not log):
        return PermissionDenied(
            what,
            why,
            todo or advise(Do.GET_PERMISSION, "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"),
            detail=words,
        )
    if error.errno == errno.ENOENT:
        return NotFound(what, why, todo, detail=words)
    if error.errno in (errno.EOPNOTSUPP, 524):
        return Unsupported(what, why, todo, detail=words)
    return KernelRefused(what, why, todo, detail=words)
