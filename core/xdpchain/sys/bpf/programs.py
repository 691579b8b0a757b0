# SPDX-License-Identifier: Apache-2.0
"""Load, describe and open programs, and run them on test packets."""

from __future__ import annotations

import ctypes
import errno
import struct
from enum import IntEnum
from typing import NamedTuple

from .call import BpfError, Command, Fd, Memory, bpf_call, open_by_id, raise_memlock, read_info, text

__all__ = [
    "JitedCode",
    "ProgInfo",
    "ProgType",
    "TestRun",
    "enable_statistics",
    "prog_bind_map",
    "prog_by_id",
    "prog_func_info",
    "prog_info",
    "prog_instructions",
    "prog_jited",
    "prog_line_info",
    "prog_lives",
    "prog_load",
    "prog_map_ids",
    "prog_stream_read",
    "prog_test_run",
]


class ProgType(IntEnum):
    """``enum bpf_prog_type``: the types used here."""

    XDP = 6
    RAW_TRACEPOINT = 17
    TRACING = 26
    EXT = 28


class ProgInfo(NamedTuple):
    """``struct bpf_prog_info``: sizes in bytes, ``load_time`` in ns since boot."""

    type: int
    id: int
    tag: str
    jited_len: int
    xlated_len: int
    load_time: int
    uid: int
    name: str
    ifindex: int
    gpl: bool
    btf_id: int
    function_count: int
    run_time_ns: int
    run_count: int
    verified_instructions: int
    attach_btf_id: int
    recursion_misses: int


_PROG_INFO = 232


def prog_load(
    kind: int,
    instructions: bytes,
    *,
    name: str,
    licence: str = "GPL",
    attach_type: int = 0,
    flags: int = 0,
    btf_fd: int = 0,
    func_info: bytes = b"",
    line_info: bytes = b"",
    attach_btf_id: int = 0,
    attach_fd: int = 0,
    ifindex: int = 0,
    log_level: int = 0,
    log_size: int = 1 << 16,
) -> Fd:
    """Load a program from final instructions. ``func_info`` has 8-byte records, ``line_info`` 16-byte ones.
    ``ifindex``: a device in this thread's network namespace to bind the program to. Raises BpfError with the
    log.
    """
    raise_memlock()
    memory = Memory()
    log = memory.buffer(log_size) if log_level else None
    attr = struct.pack(
        "<IIQQIIQII16sIIIIQIIQIII",
        kind,
        len(instructions) // 8,
        memory.at(instructions),
        memory.at(licence.encode() + b"\0"),
        log_level,
        log_size if log else 0,
        ctypes.addressof(log) if log else 0,
        0,
        flags,
        name.encode()[:15],
        ifindex,
        attach_type,
        btf_fd,
        8 if func_info else 0,
        memory.at(func_info),
        len(func_info) // 8,
        16 if line_info else 0,
        memory.at(line_info),
        len(line_info) // 16,
        attach_btf_id,
        attach_fd,
    )
    try:
        return Fd(bpf_call(Command.PROG_LOAD, attr)[0])
    except BpfError as error:
        error.log = log.value.decode(errors="replace") if log else ""
        raise


def prog_lives(prog_id: int) -> bool:
    """Whether a program with this ID exists, as far as known: only ENOENT proves that it does not."""
    try:
        prog_by_id(prog_id).close()
    except BpfError as error:
        return error.errno != errno.ENOENT
    return True


def prog_info(fd: Fd | int) -> ProgInfo:
    """The kernel's information about a program."""
    raw = read_info(fd, _PROG_INFO)
    kind, prog_id, tag, jited, xlated, _, _, loaded, uid, _, _, name, ifindex, gpl = struct.unpack_from(
        "<II8sIIQQQIIQ16sII", raw
    )
    btf_id, _, _, functions = struct.unpack_from("<IIQI", raw, 128)
    run_time, run_count, missed, verified, _, attach_id = struct.unpack_from("<QQQIII", raw, 192)
    return ProgInfo(
        kind,
        prog_id,
        tag.hex(),
        jited,
        xlated,
        loaded,
        uid,
        text(name),
        ifindex,
        bool(gpl & 1),
        btf_id,
        functions,
        run_time,
        run_count,
        verified,
        attach_id,
        missed,
    )


FEW_MAPS = 64
"""Map IDs for which there is room at the first try: more than nearly all programs have."""


def prog_map_ids(fd: Fd | int) -> tuple[int, ...]:
    """The IDs of the maps that a program uses, including those bound by BPF_PROG_BIND_MAP."""
    room = FEW_MAPS
    while True:
        memory = Memory()
        ids = memory.buffer(4 * room)
        ask = bytearray(_PROG_INFO)
        struct.pack_into("<IIQ", ask, 48, 0, room, ctypes.addressof(ids))
        count = struct.unpack_from("<I", read_info(fd, _PROG_INFO, bytes(ask)), 52)[0]
        if count <= room:
            return struct.unpack_from(f"<{count}I", ids.raw)
        room = count


def prog_func_info(fd: Fd | int) -> tuple[tuple[int, int], ...]:
    """(instruction offset, BTF type ID) of each function, as stored by the kernel."""
    count = prog_info(fd).function_count
    if not count:
        return ()
    memory = Memory()
    room = memory.buffer(8 * count)
    ask = bytearray(_PROG_INFO)
    struct.pack_into("<IQI", ask, 132, 8, ctypes.addressof(room), count)
    read_info(fd, _PROG_INFO, bytes(ask))
    return tuple(struct.iter_unpack("<II", room.raw))


def prog_line_info(fd: Fd | int) -> tuple[tuple[int, int, int, int], ...]:
    """``struct bpf_line_info`` of each line, as stored by the kernel: instruction, offsets of file name and
    line text in the program's BTF, and ``line << 10 | column``.
    """
    # struct bpf_prog_info: nr_line_info at 148, line_info at 152, line_info_rec_size at 172.
    (count,) = struct.unpack_from("<I", read_info(fd, _PROG_INFO), 148)
    if not count:
        return ()
    memory = Memory()
    room = memory.buffer(16 * count)
    ask = bytearray(_PROG_INFO)
    struct.pack_into("<IQ", ask, 148, count, ctypes.addressof(room))
    struct.pack_into("<I", ask, 172, 16)
    got = struct.unpack_from("<I", read_info(fd, _PROG_INFO, bytes(ask)), 148)[0]
    return tuple(struct.iter_unpack("<IIII", room.raw[: 16 * min(got, count)]))


class JitedCode(NamedTuple):
    """A program's location in kernel memory: (address, bytes) of each function, and the addresses of its
    source lines in the order of `prog_line_info`.
    """

    functions: tuple[tuple[int, int], ...]
    lines: tuple[int, ...]


def prog_jited(fd: Fd | int) -> JitedCode:
    """The addresses; empty if they are hidden (kernel.kptr_restrict, CAP_SYSLOG), and without a JIT."""
    # struct bpf_prog_info: nr_jited_ksyms at 104, nr_jited_func_lens 108, jited_ksyms 112,
    # jited_func_lens 120, jited_line_info 160, nr_jited_line_info 168, jited_line_info_rec_size 176.
    info = read_info(fd, _PROG_INFO)
    functions, lines = struct.unpack_from("<I", info, 104)[0], struct.unpack_from("<I", info, 168)[0]
    memory = Memory()
    starts, lengths = memory.buffer(8 * functions or 8), memory.buffer(4 * functions or 8)
    places = memory.buffer(8 * lines or 8)
    ask = bytearray(_PROG_INFO)
    rooms = ctypes.addressof(starts), ctypes.addressof(lengths)
    struct.pack_into("<IIQQ", ask, 104, functions, functions, *rooms)
    struct.pack_into("<QI", ask, 160, ctypes.addressof(places), lines)
    struct.pack_into("<I", ask, 176, 8)
    read_info(fd, _PROG_INFO, bytes(ask))
    addresses = struct.unpack_from(f"<{functions}Q", starts.raw)
    sizes = struct.unpack_from(f"<{functions}I", lengths.raw)
    known = zip(addresses, sizes, strict=True)
    return JitedCode(
        tuple(function for function in known if function[0]), struct.unpack_from(f"<{lines}Q", places.raw)
    )


def prog_instructions(fd: Fd | int) -> bytes:
    """The instructions as rewritten by the verifier, with masked addresses; empty if they are hidden (this
    takes CAP_SYS_ADMIN or CAP_PERFMON, and net.core.bpf_jit_harden off).
    """
    length = prog_info(fd).xlated_len
    if not length:
        return b""
    memory = Memory()
    room = memory.buffer(length)
    ask = bytearray(_PROG_INFO)
    struct.pack_into("<I", ask, 20, length)  # xlated_prog_len, and at 32 xlated_prog_insns
    struct.pack_into("<Q", ask, 32, ctypes.addressof(room))
    raw = read_info(fd, _PROG_INFO, bytes(ask))
    got, at = struct.unpack_from("<I", raw, 20)[0], struct.unpack_from("<Q", raw, 32)[0]
    return room.raw[:got] if at else b""


def prog_by_id(prog_id: int) -> Fd:
    """A descriptor for the program with this ID. Raises BpfError (ENOENT if it is gone)."""
    return open_by_id(Command.PROG_GET_FD_BY_ID, prog_id)


def prog_bind_map(prog: Fd, bound: Fd) -> None:
    """Make the program hold the map for its lifetime (kernel 5.10, ef15314aa5de)."""
    bpf_call(Command.PROG_BIND_MAP, struct.pack("<III", prog, bound, 0))


def prog_stream_read(prog: Fd, stream: int, size: int) -> bytes:
    """At most ``size`` bytes of what a program printed to one of its streams (``enum bpf_stream_id``), which
    are gone from there then (kernel 6.17).
    """
    room = ctypes.create_string_buffer(size)
    attr = struct.pack("<QIII", ctypes.addressof(room), size, stream, prog)
    length, _ = bpf_call(Command.PROG_STREAM_READ_BY_FD, attr)
    return room.raw[:length]


def enable_statistics() -> Fd:
    """Make the kernel time all runs of all programs (``run_time_ns``, ``run_count``) while the descriptor is
    open (kernel 5.8, d46edd671a14).
    """
    return Fd(bpf_call(Command.ENABLE_STATS, struct.pack("<I", 0))[0])  # BPF_STATS_RUN_TIME


class TestRun(NamedTuple):
    """A BPF_PROG_TEST_RUN: the return code, the resulting packet, and the mean time of a run in ns."""

    code: int
    data: bytes
    ns: int


def prog_test_run(prog: Fd, data: bytes, repeat: int = 1, ingress: int = 0) -> TestRun:
    """Run an XDP program on a packet of at least 14 bytes, ``repeat`` times.

    The packet appears to arrive on the interface with ifindex ``ingress`` in this thread's network namespace
    (kernel 5.14, commit ec94670fcb3b), where an XDP program must be attached in native mode; 0: on loopback.
    """
    memory = Memory()
    room = len(data) + 4096  # a program may extend the packet up to its page
    out = memory.buffer(room)
    context = struct.pack("<6I", 0, len(data), 0, ingress, 0, 0) if ingress else b""
    attr = struct.pack(
        "<IIIIQQIIIIQQII",
        prog, 0, len(data), room, memory.at(data), ctypes.addressof(out), repeat, 0,
        len(context), 0, memory.at(context) if context else 0, 0, 0, 0,
    )  # fmt: skip
    fields = struct.unpack_from("<IIIIQQII", bpf_call(Command.PROG_TEST_RUN, attr)[1])
    return TestRun(fields[1], out.raw[: fields[3]], fields[7])
