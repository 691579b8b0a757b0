# SPDX-License-Identifier: Apache-2.0
"""Read BPF ring buffers through libbpf (kernel 5.8 and later, commit 457f44363a88)."""

from __future__ import annotations

import ctypes
import os
from ctypes import CFUNCTYPE, c_int, c_size_t, c_void_p

from xdpchain.closing import Closing
from xdpchain.errors import KernelRefused

from .libbpf import library

__all__ = ["Ring"]

_SAMPLE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


class Ring(Closing):
    """A reader of a ring buffer map. Not thread-safe."""

    def __init__(self, map_fd: int) -> None:
        """Raises KernelRefused if the buffer can't be mapped."""
        self._records: list[bytes] = []
        self._callback = _SAMPLE(self._take)
        self._lib = library()
        self._handle: int | None = self._lib.ring_buffer__new(map_fd, self._callback, None, None)
        if not self._handle:
            raise KernelRefused("a ring buffer can't be read", os.strerror(ctypes.get_errno()))

    def _take(self, _context: int, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0

    def drain(self) -> list[bytes]:
        """The records since the last call, oldest first. Never blocks."""
        if self._handle:
            self._lib.ring_buffer__consume(self._handle)
        records, self._records = self._records, []
        return records

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._lib.ring_buffer__free(handle)
