# SPDX-License-Identifier: Apache-2.0
"""Translate classic BPF, to which libpcap compiles filter expressions, to eBPF. Pure.

The result is a function: it gets a pointer to a ``struct follow_head`` (bpf/include/follow.h: the packet's
length, how many of its bytes are present, the bytes) and returns what the filter returns, 0 for "no match".
The semantics are those of libpcap's own interpreter (pcap_offline_filter, bpf_filter.c): a read beyond the
end of the packet or a division by zero does not match. Bytes beyond the first 256 count as beyond the end.

A classic instruction is (code, jump if true, jump if false, k); jumps only go forward.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from . import opcodes as op
from .assembler import Assembly
from .opcodes import FRAME

__all__ = ["HEAD", "Classic", "Filter", "translate", "unpack"]

HEAD = 256
"""Bytes of a packet that a filter sees, and that are recorded by default: FOLLOW_HEAD of
bpf/include/follow.h.
"""

LENGTH_AT, CAPTURED_AT, BYTES_AT = 0, 4, 8
MEMORY_WORDS = 16
LONGEST = 1 << 15
"""Most instructions of a translated filter, which runs for every packet."""

# Registers: r0 is the result and a scratch register, r1 a second scratch register.
SCRATCH, OFFSET, PACKET, A, X, CAPTURED = 0, 1, 6, 7, 8, 9

# Of classic BPF alone. Sizes and operations are the same as in eBPF.
LOAD, LOAD_X, STORE, STORE_X, ALU, JUMP, RETURN, MISC = range(8)
IMMEDIATE, ABSOLUTE, INDIRECT, MEMORY, LENGTH, HEADER_LENGTH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
SIZES = {size: op.BYTES[size] for size in (op.W, op.H, op.B)}
FROM_X = 0x08

RETURN_A = 0x10
TXA = 0x80

LOAD_OF = {1: op.LDX_B, 2: op.LDX_H, 4: op.LDX_W}
TO_BIG_ENDIAN = op.X


class Classic(NamedTuple):
    """libpcap's ``struct bpf_insn``."""

    code: int
    if_true: int
    if_false: int
    k: int


@frozen
class Filter:
    """A filter as eBPF, and how many bytes of a packet it may read. ``beyond``: offsets that it reads and
    that are outside of what it can see.
    """

    instructions: bytes
    needs: int
    beyond: tuple[int, ...] = ()


FAIL = -1


def translate(program: Sequence[Classic]) -> Filter:
    """Translate a classic program. Raises InvalidInput if it is not valid classic BPF."""
    _check(program)
    out = Assembly()
    needs, beyond = 0, set[int]()
    out.put(op.MOV64_REG, PACKET, OFFSET)
    out.put(LOAD_OF[4], CAPTURED, PACKET, CAPTURED_AT)
    for register in (A, X):
        out.put(op.MOV32_IMM, register)
    for word in sorted({insn.k for insn in program if _uses_memory(insn)}):
        out.put(op.ST_W, FRAME, 0, _slot(word))
    for index, insn in enumerate(program):
        out.label(index)
        needs = max(needs, _one(out, index, insn, beyond))
    if out.uses(FAIL):  # the verifier refuses unreachable code
        out.label(FAIL)
        out.put(op.MOV32_IMM, SCRATCH)
        out.put(op.EXIT)
    if len(out) > LONGEST:
        raise InvalidInput(
            "the filter is too long", f"{len(out)} instructions, and at most {LONGEST} are allowed"
        )
    return Filter(out.image(), needs, tuple(sorted(beyond)))


def _fail(out: Assembly) -> None:
    """Never match from here on. Written as a condition, so that the verifier sees the code after it as
    reachable.
    """
    out.jump(FAIL, op.JLE_IMM, CAPTURED, HEAD)


def _one(out: Assembly, index: int, insn: Classic, beyond: set[int]) -> int:
    """Translate one instruction; returns how many bytes of the packet it needs."""
    kind = insn.code & op.CLASS
    if kind in (LOAD, LOAD_X):
        return _load(out, insn, A if kind == LOAD else X, beyond)
    if kind in (STORE, STORE_X):
        out.put(op.STX_W, FRAME, A if kind == STORE else X, _slot(insn.k))
    elif kind == ALU:
        _arithmetic(out, insn.code & op.OPERATION, bool(insn.code & FROM_X), insn.k)
    elif kind == JUMP:
        _jump(out, index, insn)
    elif kind == RETURN:
        if insn.code & 0x18 == RETURN_A:
            out.put(op.MOV32_REG, SCRATCH, A)
        else:
            out.put(op.MOV32_IMM, SCRATCH, immediate=insn.k)
        out.put(op.EXIT)
    elif insn.code & 0xF8 == TXA:
        out.put(op.MOV32_REG, A, X)
    else:
        out.put(op.MOV32_REG, X, A)
    return 0


def _load(out: Assembly, insn: Classic, register: int, beyond: set[int]) -> int:
    mode, size = insn.code & 0xE0, SIZES[insn.code & 0x18]
    if mode == IMMEDIATE:
        out.put(op.MOV32_IMM, register, immediate=insn.k)
    elif mode == MEMORY:
        out.put(LOAD_OF[4], register, FRAME, _slot(insn.k))
    elif mode == LENGTH:
        out.put(LOAD_OF[4], register, PACKET, LENGTH_AT)
    elif mode == INDIRECT:
        # In 64 bits, so that an offset that would wrap around is beyond the end, as it is for libpcap.
        out.put(op.MOV64_REG, OFFSET, X)
        if insn.k > HEAD - size:
            _fail(out)
            return 0
        out.put(op.ADD64_IMM, OFFSET, immediate=insn.k)
        out.jump(FAIL, op.JMP | op.JGT, OFFSET, immediate=HEAD - size)
        out.put(op.MOV64_REG, SCRATCH, OFFSET)
        out.put(op.ADD64_IMM, SCRATCH, immediate=size)
        out.jump(FAIL, op.JMP | op.JGT | op.X, SCRATCH, source=CAPTURED)
        out.put(op.ADD64_REG, OFFSET, PACKET)
        _packet(out, register, OFFSET, BYTES_AT, size)
        return HEAD
    else:
        end = insn.k + size
        if end > HEAD:
            beyond.add(insn.k)
            _fail(out)
            return 0
        out.jump(FAIL, op.JMP | op.JLT, CAPTURED, immediate=end)
        _packet(out, register, PACKET, BYTES_AT + insn.k, size)
        if mode == HEADER_LENGTH:
            out.put(op.ALU | op.AND, X, immediate=0xF)
            out.put(op.ALU | op.LSH, X, immediate=2)
        return end
    return 0


def _packet(out: Assembly, register: int, base: int, offset: int, size: int) -> None:
    out.put(LOAD_OF[size], register, base, offset)
    if size > 1:
        out.put(op.ALU | op.END | TO_BIG_ENDIAN, register, immediate=8 * size)


def _arithmetic(out: Assembly, operation: int, from_x: bool, k: int) -> None:
    if operation == op.NEG:
        out.put(op.ALU | op.NEG, A)
    elif not from_x:
        if operation in (op.LSH, op.RSH) and k > 31:
            out.put(op.MOV32_IMM, A)
        elif operation in (op.DIV, op.MOD) and not k:
            _fail(out)
        else:
            out.put(op.ALU | operation, A, immediate=k)
    elif operation in (op.LSH, op.RSH):
        # eBPF takes shifts modulo 32, in libpcap they shift everything out.
        out.put(op.JMP32 | op.JLT, X, 0, 2, 32)
        out.put(op.MOV32_IMM, A)
        out.put(op.GOTO, offset=1)
        out.put(op.ALU | operation | op.X, A, X)
    else:
        if operation in (op.DIV, op.MOD):
            out.jump(FAIL, op.JMP32 | op.JEQ, X)
        out.put(op.ALU | operation | op.X, A, X)


def _jump(out: Assembly, index: int, insn: Classic) -> None:
    operation = insn.code & op.OPERATION
    if operation == op.JA:
        out.jump(index + 1 + insn.k)
        return
    from_x = insn.code & FROM_X
    code = op.JMP32 | operation | (op.X if from_x else op.K)
    out.jump(index + 1 + insn.if_true, code, A, insn.k, source=X if from_x else 0)
    if insn.if_false:
        out.jump(index + 1 + insn.if_false)


def _uses_memory(insn: Classic) -> bool:
    kind = insn.code & op.CLASS
    return kind in (STORE, STORE_X) or (kind in (LOAD, LOAD_X) and insn.code & 0xE0 == MEMORY)


def _slot(word: int) -> int:
    return -4 * (word + 1)


LOADS = {size | mode for size in SIZES for mode in (ABSOLUTE, INDIRECT)} | {IMMEDIATE, MEMORY, LENGTH}
LOADS_X = {IMMEDIATE, MEMORY, LENGTH, HEADER_LENGTH | 0x10}
ARITHMETIC = (op.ADD, op.SUB, op.MUL, op.DIV, op.OR, op.AND, op.LSH, op.RSH, op.MOD, op.XOR)
COMPARISONS = (op.JEQ, op.JGT, op.JGE, op.JSET)
KNOWN = (
    {LOAD | rest for rest in LOADS}
    | {LOAD_X | rest for rest in LOADS_X}
    | {STORE, STORE_X, RETURN, RETURN | RETURN_A, MISC, MISC | TXA, ALU | op.NEG, JUMP | op.JA}
    | {
        ALU | operation | source
        for operation in (*range(0, op.NEG, 0x10), op.MOD, op.XOR)
        for source in (0, FROM_X)
    }
    | {JUMP | operation | source for operation in (op.JEQ, op.JGT, op.JGE, op.JSET) for source in (0, FROM_X)}
)


def _check(program: Sequence[Classic]) -> None:
    for index, insn in enumerate(program):
        if insn.code not in KNOWN:
            raise InvalidInput("the filter can't be translated", f"instruction {insn.code:#x} is not known")
        if _uses_memory(insn) and insn.k >= MEMORY_WORDS:
            raise InvalidInput("the filter can't be translated", f"it has no word {insn.k}")
        if insn.code & op.CLASS == JUMP:
            distances = (insn.k,) if insn.code & op.OPERATION == op.JA else (insn.if_true, insn.if_false)
            if index + 1 + max(distances) >= len(program):
                raise InvalidInput("the filter can't be translated", "it jumps out of itself")
    if not program or program[-1].code & 7 != RETURN:
        raise InvalidInput("the filter can't be translated", "it does not end with a return")


def unpack(data: bytes) -> tuple[Classic, ...]:
    """Decode an array of ``struct bpf_insn``."""
    return tuple(Classic(*fields) for fields in struct.iter_unpack("=HBBI", data))
