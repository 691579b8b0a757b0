# SPDX-License-Identifier: Apache-2.0
"""libpcap's filter compiler. Nothing is captured and no device is opened.

The only module that calls libpcap.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_long, c_ubyte, c_uint32, c_void_p
from functools import cache
from typing import Any

from xdpchain.errors import InvalidInput, Unsupported

__all__ = ["compile_expression", "run_offline"]

LIBRARIES = ("libpcap.so.0.8", "libpcap.so.1")  # Debian's name, and everyone else's
SNAPLEN = 65535
NETMASK_UNKNOWN = 0xFFFFFFFF

_lock = threading.Lock()  # the compiler is not reentrant before libpcap 1.8


class _Program(Structure):
    """``struct bpf_program``."""

    _fields_ = (("count", c_uint32), ("instructions", c_void_p))


class _Header(Structure):
    """``struct pcap_pkthdr``."""

    _fields_ = (("seconds", c_long), ("microseconds", c_long), ("captured", c_uint32), ("length", c_uint32))


_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "pcap_open_dead": (c_void_p, c_int, c_int),
    "pcap_compile": (c_int, c_void_p, POINTER(_Program), c_char_p, c_int, c_uint32),
    "pcap_geterr": (c_char_p, c_void_p),
    "pcap_freecode": (None, POINTER(_Program)),
    "pcap_close": (None, c_void_p),
    "pcap_offline_filter": (c_int, POINTER(_Program), POINTER(_Header), c_char_p),
}


@cache
def _library() -> Any:
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for function, (result, *arguments) in _SIGNATURES.items():
            prototype = getattr(library, function)
            prototype.restype, prototype.argtypes = result, arguments
        return library
    raise Unsupported(
        "filter expressions can't be used",
        "libpcap, which compiles them, is not installed",
        "Install it (Debian: libpcap0.8; elsewhere: libpcap)",
    )


def compile_expression(expression: str, dlt: int) -> bytes:
    """The filter as classic BPF for packets of a link type (``struct bpf_insn``s, 8 bytes each).

    Raises InvalidInput with libpcap's message, Unsupported if libpcap is missing.
    """
    if "\0" in expression:
        raise InvalidInput("the filter can't be read", "it contains a NUL character")
    lib = _library()
    with _lock:
        handle = lib.pcap_open_dead(dlt, SNAPLEN)
        if not handle:
            raise MemoryError
        try:
            program = _Program()
            if lib.pcap_compile(handle, byref(program), expression.encode(), 1, NETMASK_UNKNOWN):
                words = lib.pcap_geterr(handle).decode(errors="replace")
                raise InvalidInput(f"the filter {expression!r} can't be read", words, "See pcap-filter(7)")
            try:
                return ctypes.string_at(program.instructions, 8 * program.count)
            finally:
                lib.pcap_freecode(byref(program))
        finally:
            lib.pcap_close(handle)


def run_offline(classic: bytes, frame: bytes, length: int | None = None) -> int:
    """The result of libpcap's interpreter for a packet of ``length`` bytes (default: that of ``frame``), of
    which ``frame`` was captured. The program is not validated.
    """
    code = (c_ubyte * len(classic)).from_buffer_copy(classic)
    program = _Program(len(classic) // 8, ctypes.addressof(code))
    header = _Header(0, 0, len(frame), len(frame) if length is None else length)
    return int(_library().pcap_offline_filter(byref(program), byref(header), frame)) & 0xFFFFFFFF
