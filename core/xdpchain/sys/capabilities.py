# SPDX-License-Identifier: Apache-2.0
"""The capabilities of this thread."""

from __future__ import annotations

import ctypes
import struct

__all__ = ["effective_capabilities"]

_VERSION_3 = 0x20080522  # linux/capability.h
_libc = ctypes.CDLL(None)


def effective_capabilities() -> int:
    """One bit each; 0 if they can't be read."""
    sets = (ctypes.c_uint32 * 6)()  # two struct __user_cap_data_struct, low bits first
    if _libc.capget(struct.pack("=Ii", _VERSION_3, 0), sets) != 0:
        return 0
    low, high = int(sets[0]), int(sets[3])
    return high << 32 | low
