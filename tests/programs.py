# SPDX-License-Identifier: Apache-2.0
"""Generated XDP programs that any verifier accepts: branches on the packet, bounded loops, calls, stack
slots, a verdict kept in a register, and writes to the packet and to a map.
"""

from __future__ import annotations

from hypothesis import strategies as st

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.assembler import Assembly
from xdpchain.bytecode.instructions import Instruction

__all__ = ["CODES", "programs"]

CODES = (0, 1, 2, 3)
VERDICT, DATA, SCRATCH = 6, 7, 8
SLOT = -16


@st.composite
def programs(draw: st.DrawFn, *, map_fd: int | None = None) -> bytes:
    """The image of a program that returns one of CODES. r6 holds the future verdict, r7 the packet's first 14
    bytes, which exist. With ``map_fd`` (an array of one u64) it also counts.
    """
    functions = draw(st.integers(0, 2))
    out = Assembly()
    out.put(op.LDX_W, DATA, 1, 0)
    out.put(op.LDX_W, 2, 1, 4)
    out.put(op.MOV64_IMM, VERDICT, immediate=draw(st.sampled_from(CODES)))
    out.put(op.MOV64_REG, 3, DATA)
    out.put(op.ADD64_IMM, 3, immediate=14)
    out.jump("short", op.JMP | op.JGT | op.X, 3, source=2)
    out.put(op.ST_DW, op.FRAME, 0, SLOT, draw(st.sampled_from(CODES)))
    _block(draw, out, functions, draw(st.integers(1, 4)), map_fd, [0])
    out.label("short")
    how = draw(st.sampled_from(("register", "word", "constant")))
    if how == "register":
        out.put(op.MOV64_REG, 0, VERDICT)
    elif how == "word":
        out.put(op.STX_DW, op.FRAME, VERDICT, SLOT - 8)
        out.put(op.LDX_DW, 0, op.FRAME, SLOT - 8)
    else:
        out.put(op.MOV32_IMM, 0, immediate=draw(st.sampled_from(CODES)))
    out.put(op.EXIT)
    for function in range(functions):
        if out.uses(("function", function)):
            _function(draw, out, function)
    return out.image()


def _byte(draw: st.DrawFn, out: Assembly, register: int = 1) -> None:
    out.put(op.LDX_B, register, DATA, draw(st.integers(0, 13)))


def _verdict(draw: st.DrawFn, out: Assembly, functions: int) -> None:
    how = draw(st.sampled_from(("constant", "slot", "function" if functions else "constant")))
    if how == "constant":
        out.put(op.MOV64_IMM, VERDICT, immediate=draw(st.sampled_from(CODES)))
    elif how == "slot":
        out.put(op.LDX_DW, VERDICT, op.FRAME, SLOT)
    else:
        _byte(draw, out)
        out.refer(
            ("function", draw(st.integers(0, functions - 1))), Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 0)
        )
        out.put(op.MOV64_REG, VERDICT, 0)


def _block(
    draw: st.DrawFn, out: Assembly, functions: int, length: int, map_fd: int | None, fresh: list[int]
) -> None:
    for _ in range(length):
        kind = draw(st.sampled_from(("verdict", "if", "else", "loop", "slot", "write", "leave", "count")))
        fresh[0] += 1
        number = fresh[0]
        if kind in ("if", "else") and number < 12:
            _byte(draw, out)
            code = draw(st.sampled_from((op.JEQ, op.JNE, op.JGT, op.JLE, op.JSET)))
            wide = draw(st.sampled_from((op.JMP, op.JMP32)))
            out.jump(("else", number), wide | code, 1, draw(st.integers(0, 255)))
            _block(draw, out, functions, draw(st.integers(0, 2)), map_fd, fresh)
            if kind == "else":
                out.jump(("end", number))
            out.label(("else", number))
            if kind == "else":
                _block(draw, out, functions, draw(st.integers(0, 2)), map_fd, fresh)
                out.label(("end", number))
        elif kind == "loop" and number < 8:
            out.put(op.MOV64_IMM, SCRATCH, immediate=draw(st.integers(1, 4)))
            out.label(("loop", number))
            _byte(draw, out)
            out.jump(("skip", number), op.JMP | op.JGT, 1, draw(st.integers(0, 255)))
            _verdict(draw, out, functions)
            out.label(("skip", number))
            out.put(op.ADD64_IMM, SCRATCH, immediate=-1)
            out.jump(("loop", number), op.JMP | op.JNE, SCRATCH, 0)
        elif kind == "slot":
            out.put(op.ST_DW, op.FRAME, 0, SLOT, draw(st.sampled_from(CODES)))
        elif kind == "write":
            out.put(op.ST_B, DATA, 0, draw(st.integers(0, 13)), draw(st.integers(0, 255)))
        elif kind == "count" and map_fd is not None:
            out.put(op.ST_W, op.FRAME, 0, -4, 0)
            out.map(1, map_fd)
            out.put(op.MOV64_REG, 2, op.FRAME)
            out.put(op.ADD64_IMM, 2, immediate=-4)
            out.put(op.CALL, immediate=op.Helper.MAP_LOOKUP_ELEM)
            out.jump(("none", number), op.JEQ_IMM, 0, 0)
            out.put(op.LDX_DW, 1, 0, 0)
            out.put(op.ADD64_IMM, 1, immediate=draw(st.integers(1, 9)))
            out.put(op.STX_DW, 0, 1, 0)
            out.label(("none", number))
        elif kind == "leave":
            _byte(draw, out)
            out.jump(("stay", number), op.JNE_IMM, 1, draw(st.integers(0, 255)))
            out.put(op.MOV32_IMM, 0, immediate=draw(st.sampled_from(CODES)))
            out.put(op.EXIT)
            out.label(("stay", number))
        else:
            _verdict(draw, out, functions)


def _function(draw: st.DrawFn, out: Assembly, function: int) -> None:
    """A code for the byte in r1."""
    out.label(("function", function))
    out.put(op.MOV64_IMM, 0, immediate=draw(st.sampled_from(CODES)))
    out.jump(("out", function), op.JMP | op.JGT, 1, draw(st.integers(0, 255)))
    if draw(st.booleans()):
        out.put(op.MOV64_IMM, 0, immediate=draw(st.sampled_from(CODES)))
    out.label(("out", function))
    out.put(op.EXIT)
