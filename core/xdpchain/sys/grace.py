# SPDX-License-Identifier: Apache-2.0
"""Wait until the XDP programs now running in the kernel have returned."""

from __future__ import annotations

import contextlib
import ctypes
import os

__all__ = ["wait_for_packets"]

MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "s390x": 356, "ppc64le": 365}
GLOBAL = 1


def wait_for_packets() -> None:
    """Return once every XDP program that was running at the call has finished (about 10 ms).

    membarrier(2) with MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel 4.3, 5b25b13ab08f), and XDP programs
    run in an RCU read-side critical section. If the call is unknown or not permitted, this returns at once:
    on most kernels the swap itself has already waited.
    """
    syscall_nr = MEMBARRIER.get(os.uname().machine)
    if syscall_nr is not None:
        with contextlib.suppress(OSError):
            _membarrier(syscall_nr)


def _membarrier(syscall_nr: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(syscall_nr), ctypes.c_int(GLOBAL), ctypes.c_int(0), ctypes.c_int(0)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
