# SPDX-License-Identifier: Apache-2.0
"""An interpreter for the eBPF that filters are translated to: registers, the stack, one block of memory."""

from __future__ import annotations

import struct

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import instructions

__all__ = ["run_filter"]

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
MEMORY, STACK = 0x10000, 0x20000
STACK_SIZE = 512
SIZES = {op.W: "I", op.H: "H", op.B: "B"}


class Outside(Exception):
    """An access outside the memory, which the verifier must never allow."""


def run_filter(code: bytes, memory: bytes) -> int:
    """What the function returns given a pointer to ``memory``; it may read nothing else."""
    program = dict(instructions(code))
    stack: dict[int, int] = {}
    registers: list[int | None] = [None] * 11
    registers[1], registers[10] = MEMORY, STACK + STACK_SIZE

    def value(register: int) -> int:
        found = registers[register]
        assert found is not None, f"r{register} was never set"
        return found

    def load(at: int, size: int) -> int:
        length = struct.calcsize(SIZES[size])
        if at >= MEMORY and at + length <= MEMORY + len(memory):
            return int(struct.unpack_from("=" + SIZES[size], memory, at - MEMORY)[0])
        if at in stack and size == op.W:
            return stack[at]
        raise Outside(hex(at))

    index = 0
    while True:
        instruction = program[index]
        kind, signed = instruction.code & op.CLASS, instruction.immediate
        index += 1
        if kind == op.LDX:
            registers[instruction.target] = load(
                value(instruction.source) + instruction.offset, instruction.code & op.SIZE
            )
        elif kind in (op.ST, op.STX):
            at = value(instruction.target) + instruction.offset
            if not STACK <= at <= STACK + STACK_SIZE - 4:
                raise Outside(hex(at))
            stack[at] = (signed if kind == op.ST else value(instruction.source)) & MASK32
        elif kind in (op.ALU, op.ALU64):
            wide = kind == op.ALU64
            mask = MASK64 if wide else MASK32
            if instruction.code & op.OPERATION == op.END:
                size = signed // 8
                registers[instruction.target] = int.from_bytes(
                    (value(instruction.target) & ((1 << signed) - 1)).to_bytes(size, "little"), "big"
                )
            else:
                source = value(instruction.source) if instruction.code & op.X else signed
                before = 0 if instruction.code & op.OPERATION == op.MOV else value(instruction.target) & mask
                registers[instruction.target] = _alu(
                    instruction.code & op.OPERATION, before, source & mask, mask
                )
        else:
            operation = instruction.code & op.OPERATION
            if instruction.code == op.EXIT:
                return value(0) & MASK32
            mask = MASK64 if kind == op.JMP else MASK32
            source = (value(instruction.source) if instruction.code & op.X else signed) & mask
            if operation == op.JA or _jumps(operation, value(instruction.target) & mask, source):
                index += instruction.offset


def _alu(operation: int, a: int, b: int, mask: int) -> int:
    bits = mask.bit_length() - 1
    match operation:
        case op.ADD:
            result = a + b
        case op.SUB:
            result = a - b
        case op.MUL:
            result = a * b
        case op.DIV:
            result = a // b if b else 0
        case op.OR:
            result = a | b
        case op.AND:
            result = a & b
        case op.LSH:
            result = a << (b & bits)
        case op.RSH:
            result = a >> (b & bits)
        case op.NEG:
            result = -a
        case op.MOD:
            result = a % b if b else a
        case op.XOR:
            result = a ^ b
        case op.MOV:
            result = b
        case _:
            raise AssertionError(hex(operation))
    return result & mask


def _jumps(operation: int, a: int, b: int) -> bool:
    return {
        op.JEQ: a == b, op.JGT: a > b, op.JGE: a >= b, op.JSET: bool(a & b), op.JNE: a != b,
        op.JLT: a < b, op.JLE: a <= b,
    }[operation]  # fmt: skip
