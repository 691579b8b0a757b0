# SPDX-License-Identifier: Apache-2.0
"""A BPF ring buffer, read through libbpf."""

from __future__ import annotations

import ctypes
import os
from ctypes import CFUNCTYPE, c_int, c_size_t, c_void_p
from functools import cache
from typing import Any

from .bpf import BpfError, Command, Fd
from .libbpf import library

__all__ = ["RingBuffer"]

_SAMPLE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


@cache
def _functions() -> Any:
    lib = library()
    lib.ring_buffer__new.restype = c_void_p
    lib.ring_buffer__new.argtypes = (c_int, _SAMPLE, c_void_p, c_void_p)
    lib.ring_buffer__consume.restype = c_int
    lib.ring_buffer__consume.argtypes = (c_void_p,)
    lib.ring_buffer__free.restype = None
    lib.ring_buffer__free.argtypes = (c_void_p,)
    return lib


class RingBuffer:
    """Reads the records of a ring buffer, each once, in the order in which they were reserved."""

    def __init__(self, ring: Fd) -> None:
        """Raises BpfError."""
        self._lib = _functions()
        self._found: list[bytes] = []
        self._callback = _SAMPLE(self._keep)
        self._handle: int | None = self._lib.ring_buffer__new(ring.fileno(), self._callback, None, None)
        if not self._handle:
            raise BpfError(ctypes.get_errno(), Command.MAP_LOOKUP_ELEM)

    def _keep(self, _context: int, at: int, size: int) -> int:
        self._found.append(ctypes.string_at(at, size))
        return 0

    def read(self) -> list[bytes]:
        """All records that are there now; never waits."""
        if self._handle is None:
            return []
        result = self._lib.ring_buffer__consume(self._handle)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._lib.ring_buffer__free(handle)
