# SPDX-License-Identifier: Apache-2.0
"""The opcodes of BPF instructions, for all code that reads or writes them. Pure.

Names and values: the kernel's Documentation/bpf/standardization/instruction-set.rst and uapi/linux/bpf.h. An
opcode is the sum of a class and, for arithmetic and jumps, a source (K: the immediate, X: a register) and an
operation, or for memory accesses, a size and a mode. Whole opcodes are named like assembler mnemonics.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

# Classes: the lowest three bits.
LD, LDX, ST, STX, ALU, JMP, JMP32, ALU64 = range(8)
CLASS: Final = 0x07

# Sources for arithmetic and jumps.
K: Final = 0x00
X: Final = 0x08

# Arithmetic operations.
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR, MOV, ARSH, END = range(0x00, 0xE0, 0x10)
OPERATION: Final = 0xF0

# Jump operations. JCOND is may_goto (kernel 6.9).
JA, JEQ, JGT, JGE, JSET, JNE, JSGT, JSGE, JCALL, JEXIT, JLT, JLE, JSLT, JSLE, JCOND = range(0x00, 0xF0, 0x10)

# Sizes and modes of memory accesses.
W, H, B, DW = 0x00, 0x08, 0x10, 0x18
SIZE: Final = 0x18
IMM, ABS, IND, MEM, MEMSX, ATOMIC = 0x00, 0x20, 0x40, 0x60, 0x80, 0xC0
MODE: Final = 0xE0
BYTES: Final = {W: 4, H: 2, B: 1, DW: 8}
"""How many bytes an access of a size reads or writes."""
FETCH: Final = 0x01
"""In the immediate of an atomic operation: its source register gets the old value (CMPXCHG: r0 does)."""
CMPXCHG: Final = 0xF1

# Whole opcodes.
LD_IMM64: Final = LD | IMM | DW
"""The only instruction with two parts."""
CALL: Final = JMP | JCALL
EXIT: Final = JMP | JEXIT
GOTO: Final = JMP | JA
GOTOL: Final = JMP32 | JA
"""Its distance is the immediate (kernel 6.6)."""
MAY_GOTO: Final = JMP | JCOND

MOV64_IMM: Final = ALU64 | MOV | K
MOV64_REG: Final = ALU64 | MOV | X
MOV32_IMM: Final = ALU | MOV | K
MOV32_REG: Final = ALU | MOV | X
ADD64_IMM: Final = ALU64 | ADD | K
ADD64_REG: Final = ALU64 | ADD | X
SUB64_REG: Final = ALU64 | SUB | X
MUL64_IMM: Final = ALU64 | MUL | K
LDX_B, LDX_H, LDX_W, LDX_DW = (LDX | MEM | size for size in (B, H, W, DW))
ST_B, ST_H, ST_W, ST_DW = (ST | MEM | size for size in (B, H, W, DW))
STX_B, STX_H, STX_W, STX_DW = (STX | MEM | size for size in (B, H, W, DW))
JEQ_IMM: Final = JMP | JEQ | K
JNE_IMM: Final = JMP | JNE | K
JLE_IMM: Final = JMP | JLE | K
JNE32_IMM: Final = JMP32 | JNE | K
"""Compares the lower halves of registers (kernel 5.1)."""

FRAME: Final = 10
"""The register that points to the end of the stack frame."""
STACK: Final = 512
"""Bytes of one stack frame."""

# What the source register of CALL and LD_IMM64 says about the immediate.
CALL_HELPER, CALL_FUNCTION, CALL_KFUNC = 0, 1, 2
IMM_VALUE, IMM_MAP, IMM_MAP_VALUE, IMM_FUNCTION = 0, 1, 2, 4


class Helper(IntEnum):
    """The part of ``enum bpf_func_id`` that is called or looked for here. The numbers never change."""

    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    KTIME_GET_NS = 5
    GET_PRANDOM_U32 = 7
    GET_SMP_PROCESSOR_ID = 8
    TAIL_CALL = 12
    REDIRECT = 23
    PERF_EVENT_OUTPUT = 25
    XDP_ADJUST_HEAD = 44
    REDIRECT_MAP = 51
    XDP_ADJUST_META = 54
    XDP_ADJUST_TAIL = 65
    FIB_LOOKUP = 69
    JIFFIES64 = 118
    KTIME_GET_BOOT_NS = 125
    RINGBUF_OUTPUT = 130
    RINGBUF_SUBMIT = 132
    KTIME_GET_COARSE_NS = 160
    FOR_EACH_MAP_ELEM = 164
    LOOP = 181
    XDP_GET_BUFF_LEN = 188
    XDP_STORE_BYTES = 190
    RINGBUF_SUBMIT_DYNPTR = 199
    DYNPTR_WRITE = 202
    KTIME_GET_TAI_NS = 208
    USER_RINGBUF_DRAIN = 209

    @property
    def function(self) -> str:
        """Its name in C."""
        return f"bpf_{self.name.lower()}"


CALLING_BACK: Final = (Helper.FOR_EACH_MAP_ELEM, Helper.LOOP, Helper.USER_RINGBUF_DRAIN)
"""Helpers that call one of the program's functions."""


def is_jump(code: int) -> bool:
    """Whether an instruction with this opcode may continue elsewhere in its function."""
    return code & CLASS in (JMP, JMP32) and code not in (CALL, EXIT)


def is_goto(code: int) -> bool:
    """Whether it always continues elsewhere."""
    return code in (GOTO, GOTOL)


def is_store(code: int) -> bool:
    """Whether it writes to memory, as atomic operations also do."""
    return code & CLASS in (ST, STX)
