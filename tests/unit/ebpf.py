# SPDX-License-Identifier: Apache-2.0
"""An interpreter of the eBPF that filters are translated to: registers, the stack, one block of memory."""

from __future__ import annotations

import struct

from xdpchain.bytecode.instructions import instructions

__all__ = ["run_filter"]

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
MEMORY, STACK = 0x10000, 0x20000
STACK_SIZE = 512
SIZES = {0x00: "I", 0x08: "H", 0x10: "B"}


class Outside(Exception):
    """An access outside of the memory: what the verifier must never let happen."""


def run_filter(code: bytes, memory: bytes) -> int:
    """What the function returns when it gets a pointer to ``memory``; it may read nothing else."""
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
        if at in stack and size == 0x00:
            return stack[at]
        raise Outside(hex(at))

    index = 0
    while True:
        one = program[index]
        kind, signed = one.code & 7, one.immediate
        index += 1
        if kind == 1:
            registers[one.target] = load(value(one.source) + one.offset, one.code & 0x18)
        elif kind in (2, 3):
            at = value(one.target) + one.offset
            if not STACK <= at <= STACK + STACK_SIZE - 4:
                raise Outside(hex(at))
            stack[at] = (signed if kind == 2 else value(one.source)) & MASK32
        elif kind in (4, 7):
            wide = kind == 7
            mask = MASK64 if wide else MASK32
            if one.code & 0xF0 == 0xD0:
                size = signed // 8
                registers[one.target] = int.from_bytes(
                    (value(one.target) & ((1 << signed) - 1)).to_bytes(size, "little"), "big"
                )
            else:
                source = value(one.source) if one.code & 8 else signed
                before = 0 if one.code & 0xF0 == 0xB0 else value(one.target) & mask
                registers[one.target] = _alu(one.code & 0xF0, before, source & mask, mask)
        else:
            operation = one.code & 0xF0
            if operation == 0x90:
                return value(0) & MASK32
            mask = MASK64 if kind == 5 else MASK32
            source = (value(one.source) if one.code & 8 else signed) & mask
            if operation == 0 or _jumps(operation, value(one.target) & mask, source):
                index += one.offset


def _alu(operation: int, a: int, b: int, mask: int) -> int:
    bits = mask.bit_length() - 1
    match operation:
        case 0x00:
            result = a + b
        case 0x10:
            result = a - b
        case 0x20:
            result = a * b
        case 0x30:
            result = a // b if b else 0
        case 0x40:
            result = a | b
        case 0x50:
            result = a & b
        case 0x60:
            result = a << (b & bits)
        case 0x70:
            result = a >> (b & bits)
        case 0x80:
            result = -a
        case 0x90:
            result = a % b if b else a
        case 0xA0:
            result = a ^ b
        case 0xB0:
            result = b
        case _:
            raise AssertionError(hex(operation))
    return result & mask


def _jumps(operation: int, a: int, b: int) -> bool:
    return {
        0x10: a == b, 0x20: a > b, 0x30: a >= b, 0x40: bool(a & b), 0x50: a != b, 0xA0: a < b, 0xB0: a <= b
    }[operation]  # fmt: skip
