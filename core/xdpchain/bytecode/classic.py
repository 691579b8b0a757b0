# SPDX-License-Identifier: Apache-2.0
"""Classic BPF, which libpcap compiles filter expressions to, translated to eBPF. Pure.

The result is a function of its own: it gets a pointer to a ``struct follow_head`` (bpf/include/follow.h: the
packet's length, how many of its bytes are there, the bytes) and returns what the filter returns, 0 for "not
this one". It means what libpcap's own interpreter means (pcap_offline_filter, bpf_filter.c): whoever reads
beyond the end of the packet, or divides by zero, does not match. Beyond the 256 bytes that are there, a
packet ends as well.

A classic instruction is (code, jump if true, jump if false, k); jumps only go forward.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xdpchain.errors import InvalidInput

from .instructions import Instruction

__all__ = ["HEAD", "Classic", "Filter", "translate", "unpack"]

HEAD = 256
"""Bytes of a packet that a filter sees: FOLLOW_HEAD of bpf/include/follow.h."""

LENGTH_AT, CAPTURED_AT, BYTES_AT = 0, 4, 8
MEMORY_WORDS = 16
LONGEST_JUMP = (1 << 15) - 1

# Registers: r0 is the result and a scratch register, r1 another.
SCRATCH, OFFSET, PACKET, A, X, CAPTURED, FRAME = 0, 1, 6, 7, 8, 9, 10

LOAD, LOAD_X, STORE, STORE_X, ALU, JUMP, RETURN, MISC = range(8)
IMMEDIATE, ABSOLUTE, INDIRECT, MEMORY, LENGTH, HEADER_LENGTH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
FROM_X = 0x08

ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR = range(0, 0xB0, 0x10)
JA, JEQ, JGT, JGE, JSET = range(0, 0x50, 0x10)
RETURN_A = 0x10
TXA = 0x80

ALU32, ALU64, JMP, JMP32 = 0x04, 0x07, 0x05, 0x06
MOVE, END = 0xB0, 0xD0
REGISTER = 0x08
JLT, JLE, EXIT = 0xA0, 0xB0, 0x90
# Memory accesses by their size in bytes: eBPF keeps the classic size codes, and adds one of eight bytes.
LOAD_OF = {1: 0x71, 2: 0x69, 4: 0x61}
STORE_WORD, STORE_ZERO_WORD = 0x63, 0x62
TO_BIG_ENDIAN = 0x08


class Classic(NamedTuple):
    """``struct bpf_insn`` of libpcap."""

    code: int
    if_true: int
    if_false: int
    k: int


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as eBPF, and how many bytes of a packet it may look at. ``beyond`` are offsets that it asks
    for and that lie outside of what it can see.
    """

    instructions: bytes
    needs: int
    beyond: tuple[int, ...] = ()


class _Out:
    """eBPF instructions with jumps to places that are not known yet: a place is a classic index, or FAIL."""

    def __init__(self) -> None:
        self.code: list[Instruction] = []
        self.starts: dict[int, int] = {}
        self._jumps: list[tuple[int, int]] = []

    def __call__(self, code: int, target: int = 0, source: int = 0, offset: int = 0, k: int = 0) -> None:
        signed = (k & 0xFFFFFFFF) - (1 << 32) if k & 0x80000000 else k & 0xFFFFFFFF
        self.code.append(Instruction(code, target, source, offset, signed))

    def jump(self, to: int, code: int = JMP | JA, target: int = 0, source: int = 0, k: int = 0) -> None:
        self._jumps.append((len(self.code), to))
        self(code, target, source, 0, k)

    def fail(self) -> None:
        """Never match from here. Put as a question, so that what follows can be reached, for the verifier."""
        self.jump(FAIL, JMP | JLE, CAPTURED, k=HEAD)

    def jumps_to(self, place: int) -> bool:
        return any(to == place for _, to in self._jumps)

    def assemble(self) -> bytes:
        for index, to in self._jumps:
            distance = self.starts[to] - index - 1
            if distance > LONGEST_JUMP:
                raise InvalidInput("the filter is too long", "it jumps further than an instruction can say")
            self.code[index] = self.code[index]._replace(offset=distance)
        return b"".join(one.encode() for one in self.code)


FAIL = -1


def translate(program: Sequence[Classic]) -> Filter:
    """Translate a classic program. Raises InvalidInput for what is none."""
    _check(program)
    out = _Out()
    needs, beyond = 0, set[int]()
    out(ALU64 | MOVE | REGISTER, PACKET, OFFSET)
    out(LOAD_OF[4], CAPTURED, PACKET, CAPTURED_AT)
    for register in (A, X):
        out(ALU32 | MOVE, register)
    for word in sorted({one.k for one in program if _uses_memory(one)}):
        out(STORE_ZERO_WORD, FRAME, 0, _slot(word))
    for index, one in enumerate(program):
        out.starts[index] = len(out.code)
        needs = max(needs, _one(out, index, one, beyond))
    if out.jumps_to(FAIL):  # the verifier refuses what can't be reached
        out.starts[FAIL] = len(out.code)
        out(ALU32 | MOVE, SCRATCH)
        out(JMP | EXIT)
    return Filter(out.assemble(), needs, tuple(sorted(beyond)))


def _one(out: _Out, index: int, one: Classic, beyond: set[int]) -> int:
    """Translate one instruction; returns up to which byte it looks at the packet."""
    kind = one.code & 7
    if kind in (LOAD, LOAD_X):
        return _load(out, one, A if kind == LOAD else X, beyond)
    if kind in (STORE, STORE_X):
        out(STORE_WORD, FRAME, A if kind == STORE else X, _slot(one.k))
    elif kind == ALU:
        _arithmetic(out, one.code & 0xF0, bool(one.code & FROM_X), one.k)
    elif kind == JUMP:
        _jump(out, index, one)
    elif kind == RETURN:
        if one.code & 0x18 == RETURN_A:
            out(ALU32 | MOVE | REGISTER, SCRATCH, A)
        else:
            out(ALU32 | MOVE, SCRATCH, k=one.k)
        out(JMP | EXIT)
    elif one.code & 0xF8 == TXA:
        out(ALU32 | MOVE | REGISTER, A, X)
    else:
        out(ALU32 | MOVE | REGISTER, X, A)
    return 0


def _load(out: _Out, one: Classic, register: int, beyond: set[int]) -> int:
    mode, size = one.code & 0xE0, SIZES[one.code & 0x18]
    if mode == IMMEDIATE:
        out(ALU32 | MOVE, register, k=one.k)
    elif mode == MEMORY:
        out(LOAD_OF[4], register, FRAME, _slot(one.k))
    elif mode == LENGTH:
        out(LOAD_OF[4], register, PACKET, LENGTH_AT)
    elif mode == INDIRECT:
        # As 64 bits: an offset that would wrap around lies beyond the end, as it does for libpcap.
        out(ALU64 | MOVE | REGISTER, OFFSET, X)
        if one.k > HEAD - size:
            out.fail()
            return 0
        out(ALU64 | ADD, OFFSET, k=one.k)
        out.jump(FAIL, JMP | JGT, OFFSET, k=HEAD - size)
        out(ALU64 | MOVE | REGISTER, SCRATCH, OFFSET)
        out(ALU64 | ADD, SCRATCH, k=size)
        out.jump(FAIL, JMP | JGT | REGISTER, SCRATCH, CAPTURED)
        out(ALU64 | ADD | REGISTER, OFFSET, PACKET)
        _packet(out, register, OFFSET, BYTES_AT, size)
        return HEAD
    else:
        end = one.k + size
        if end > HEAD:
            beyond.add(one.k)
            out.fail()
            return 0
        out.jump(FAIL, JMP | JLT, CAPTURED, k=end)
        _packet(out, register, PACKET, BYTES_AT + one.k, size)
        if mode == HEADER_LENGTH:
            out(ALU32 | AND, X, k=0xF)
            out(ALU32 | LSH, X, k=2)
        return end
    return 0


def _packet(out: _Out, register: int, base: int, offset: int, size: int) -> None:
    out(LOAD_OF[size], register, base, offset)
    if size > 1:
        out(ALU32 | END | TO_BIG_ENDIAN, register, k=8 * size)


def _arithmetic(out: _Out, operation: int, from_x: bool, k: int) -> None:
    if operation == NEG:
        out(ALU32 | NEG, A)
    elif not from_x:
        if operation in (LSH, RSH) and k > 31:
            out(ALU32 | MOVE, A)
        elif operation in (DIV, MOD) and not k:
            out.fail()
        else:
            out(ALU32 | operation, A, k=k)
    elif operation in (LSH, RSH):
        # eBPF takes the shift modulo 32, libpcap shifts everything out.
        out(JMP32 | JLT, X, 0, 2, 32)
        out(ALU32 | MOVE, A)
        out(JMP | JA, offset=1)
        out(ALU32 | operation | REGISTER, A, X)
    else:
        if operation in (DIV, MOD):
            out.jump(FAIL, JMP32 | JEQ, X)
        out(ALU32 | operation | REGISTER, A, X)


def _jump(out: _Out, index: int, one: Classic) -> None:
    operation = one.code & 0xF0
    if operation == JA:
        out.jump(index + 1 + one.k)
        return
    code = JMP32 | operation | (REGISTER if one.code & FROM_X else 0)
    out.jump(index + 1 + one.if_true, code, A, X if one.code & FROM_X else 0, one.k)
    if one.if_false:
        out.jump(index + 1 + one.if_false)


def _uses_memory(one: Classic) -> bool:
    kind = one.code & 7
    return kind in (STORE, STORE_X) or (kind in (LOAD, LOAD_X) and one.code & 0xE0 == MEMORY)


def _slot(word: int) -> int:
    return -4 * (word + 1)


LOADS = {size | mode for size in SIZES for mode in (ABSOLUTE, INDIRECT)} | {IMMEDIATE, MEMORY, LENGTH}
LOADS_X = {IMMEDIATE, MEMORY, LENGTH, HEADER_LENGTH | 0x10}
KNOWN = (
    {LOAD | rest for rest in LOADS}
    | {LOAD_X | rest for rest in LOADS_X}
    | {STORE, STORE_X, RETURN, RETURN | RETURN_A, MISC, MISC | TXA, ALU | NEG, JUMP | JA}
    | {ALU | operation | source for operation in (*range(0, NEG, 0x10), MOD, XOR) for source in (0, FROM_X)}
    | {JUMP | operation | source for operation in (JEQ, JGT, JGE, JSET) for source in (0, FROM_X)}
)


def _check(program: Sequence[Classic]) -> None:
    for index, one in enumerate(program):
        if one.code not in KNOWN:
            raise InvalidInput("the filter can't be translated", f"instruction {one.code:#x} is not known")
        if _uses_memory(one) and one.k >= MEMORY_WORDS:
            raise InvalidInput("the filter can't be translated", f"it has no word {one.k}")
        if one.code & 7 == JUMP:
            distances = (one.k,) if one.code & 0xF0 == JA else (one.if_true, one.if_false)
            if index + 1 + max(distances) >= len(program):
                raise InvalidInput("the filter can't be translated", "it jumps out of itself")
    if not program or program[-1].code & 7 != RETURN:
        raise InvalidInput("the filter can't be translated", "it does not end with a return")


def unpack(data: bytes) -> tuple[Classic, ...]:
    """``struct bpf_insn``s out of memory."""
    return tuple(Classic(*fields) for fields in struct.iter_unpack("=HBBI", data))
