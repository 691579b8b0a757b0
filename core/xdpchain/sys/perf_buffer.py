# SPDX-License-Identifier: Apache-2.0
"""Read what programs put into a perf event array, through libbpf."""

from __future__ import annotations

import ctypes
import os
from ctypes import CFUNCTYPE, c_int, c_uint32, c_void_p

from xdpchain.closing import Closing
from xdpchain.errors import KernelRefused

from .bpf import Fd
from .libbpf import library

__all__ = ["PerfBuffer"]

_SAMPLE = CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_uint32)


class PerfBuffer(Closing):
    """A reader of a perf event array: one buffer per CPU. Not thread-safe."""

    def __init__(self, map_fd: int, pages: int) -> None:
        """``pages``: of each CPU's buffer, a power of 2. The array is held: the kernel takes the buffers out
        of it when who put them in closes it. Raises KernelRefused.
        """
        self._array = Fd(os.dup(map_fd))
        self._samples: list[bytes] = []
        self._callback = _SAMPLE(self._take)
        self._lib = library()
        self._handle: int | None = self._lib.perf_buffer__new(
            self._array.fileno(), pages, self._callback, None, None, None
        )
        if not self._handle:
            self._array.close()
            raise KernelRefused("a perf buffer can't be read", os.strerror(ctypes.get_errno()))

    def _take(self, _context: int, _cpu: int, data: int, size: int) -> None:
        self._samples.append(ctypes.string_at(data, size))

    def drain(self) -> list[bytes]:
        """The samples since the last call, by CPU, oldest first, padded to 8 bytes. Never blocks."""
        if self._handle:
            self._lib.perf_buffer__consume(self._handle)
        samples, self._samples = self._samples, []
        return samples

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._lib.perf_buffer__free(handle)
        self._array.close()
