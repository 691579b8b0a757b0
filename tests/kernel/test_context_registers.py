# SPDX-License-Identifier: Apache-2.0
"""A slot's program that still has the context in some register where it exits, or in none, counts packets and
bytes and hands on.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import pytest

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import Instruction
from xdpchain.bytecode.unfolding import unfold
from xdpchain.linkage.prog_array_entries import make_array, set_row
from xdpchain.linkage.threaded import ChainCall, Code, CountInto, Member, thread
from xdpchain.model.flow import KINDS, ways_out
from xdpchain.sys import bpf
from xdpchain.sys.cpus import possible_cpus

STRIDE, VERDICTS = 256, len(KINDS)
DROPS = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)

EXIT = Instruction(op.EXIT, 0, 0, 0, 0)
CLOBBERED = Instruction(op.MOV64_IMM, 1, 0, 0, 7)
CALLS = Instruction(op.CALL, 0, op.CALL_HELPER, 0, op.Helper.GET_SMP_PROCESSOR_ID)


def copied(register: int) -> Instruction:
    return Instruction(op.MOV64_REG, register, 1, 0, 0)


def code(value: int) -> Instruction:
    return Instruction(op.MOV64_IMM, 0, 0, 0, value)


# The code is the packet's first byte; r1 keeps the context.
FROM_PACKET = [
    Instruction(op.LDX_W, 2, 1, 0, 0),
    Instruction(op.LDX_W, 3, 1, 4, 0),
    Instruction(op.MOV64_REG, 4, 2, 0, 0),
    Instruction(op.ADD64_IMM, 4, 0, 0, 14),
    code(0),
    Instruction(op.JMP | op.JGT | op.X, 4, 3, 1, 0),
    Instruction(op.LDX_B, 0, 2, 0, 0),
]
PROGRAMS = {
    "r1": [code(2), EXIT],
    "r2": [copied(2), CLOBBERED, code(2), EXIT],
    "r6": [copied(6), CALLS, code(2), EXIT],
    "r8": [copied(8), CALLS, code(2), EXIT],
    "none": [CLOBBERED, code(2), EXIT],
    "r1, any code": [*FROM_PACKET, EXIT],
    "r6, any code": [copied(6), *FROM_PACKET, CLOBBERED, EXIT],
    "r8, any code": [copied(8), *FROM_PACKET, CLOBBERED, EXIT],
    "none, any code": [*FROM_PACKET, CLOBBERED, EXIT],
    "r1 or none": [*FROM_PACKET, Instruction(op.JEQ_IMM, 0, 0, 2, 2), CLOBBERED, EXIT, code(2), EXIT],
}


@pytest.fixture
def held() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as held:
        yield held


@pytest.mark.parametrize("last", [False, True], ids=["", "last"])
@pytest.mark.parametrize("hands_on", [False, True], ids=["returns", "hands on"])
@pytest.mark.parametrize("stack", [0, 496, 504])
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_counts_and_hands_on(
    root: None, held: contextlib.ExitStack, name: str, stack: int, hands_on: bool, last: bool
) -> None:
    lines = PROGRAMS[name]
    cpus = possible_cpus()
    counters = held.enter_context(bpf.map_create(bpf.MapType.ARRAY, 4, STRIDE * cpus, 1, name="counters"))
    array = held.enter_context(make_array())
    drops = held.enter_context(bpf.prog_load(bpf.ProgType.XDP, DROPS, name="drops"))
    threaded = thread(
        [Member(Code(lines, (0,)), stack, unfold(lines))],
        ways_out(),
        frags=False,
        counting=CountInto(counters.fileno(), STRIDE, cpus, {(0, kind): {None: kind} for kind in KINDS}),
        chain_call=ChainCall(array.fileno(), VERDICTS, last) if hands_on or last else None,
    )
    assert threaded is not None
    program = held.enter_context(bpf.prog_load(bpf.ProgType.XDP, threaded.assembled.image, name="slot"))
    if hands_on:
        set_row(array, 2, drops)
    expected: dict[int, list[int]] = {}
    for first, length in ((2, 60), (2, 100), (77, 61), (3, 64)):
        packet = bytes([first]).ljust(length, b"\0")
        returned = first if "code" in name or " or " in name else 2
        called = hands_on and returned == 2 and not last
        assert bpf.prog_test_run(program, packet).code == (1 if called else returned)
        kinds = [min(returned, 5)] + [VERDICTS + min(returned, 5)] * ((hands_on or last) and not called)
        for kind in kinds:
            row = expected.setdefault(kind, [0, 0])
            row[0] += 1
            row[1] += length
    values = bpf.map_lookup(counters, bytes(4), STRIDE * cpus)
    found: dict[int, list[int]] = {}
    for at in range(0, STRIDE * cpus, STRIDE):
        for number in range(STRIDE // 16):
            packets, octets = struct.unpack_from("=QQ", values, at + 16 * number)
            if packets or octets:
                row = found.setdefault(number, [0, 0])
                row[0] += packets
                row[1] += octets
    assert found == expected
