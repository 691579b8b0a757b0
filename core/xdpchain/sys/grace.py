# SPDX-License-Identifier: Apache-2.0
"""Waiting for what runs in the kernel right now."""

from __future__ import annotations

import contextlib
import ctypes
import os

__all__ = ["wait_for_packets"]

MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "s390x": 356, "ppc64le": 365}
GLOBAL = 1


def wait_for_packets() -> None:
    """Return when every XDP program has ended that ran when this was called (some 10 ms).

    membarrier(2) with MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel 4.3, 5b25b13ab08f), and XDP programs
    run inside an RCU read-side critical section. Where the call is not known or not permitted, nothing is
    waited for: the swap itself has waited, on most kernels.
    """
    number = MEMBARRIER.get(os.uname().machine)
    if number is not None:
        with contextlib.suppress(OSError):
            _membarrier(number)


def _membarrier(number: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), ctypes.c_int(GLOBAL), ctypes.c_int(0), ctypes.c_int(0)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
