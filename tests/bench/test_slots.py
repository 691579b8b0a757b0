# SPDX-License-Identifier: Apache-2.0
"""What a chain costs a packet: 1, 2, 5 and 10 empty slots, with and without counters.

Beside them, in the same rounds: the last program alone, and a program that does nothing but call an empty
function as often. That is the least that any chain of calls can cost on this kernel: where returns are
guarded against speculation (retbleed, SRSO), a call and its return alone take several nanoseconds.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.rounds import alternate
from tests.kernel.chains import chain_of
from xdpchain.linkage.static import StaticLinker
from xdpchain.model.manifest import Author
from xdpchain.sys import bpf
from xdpchain.trial.run import NOWHERE

pytestmark = pytest.mark.bench

LENGTHS = (1, 2, 5, 10)
PACKET = bytes(64)
REPEAT = 300_000
ROUNDS = 15
SLOT_TARGET_NS = 1.5
COUNTERS_TARGET_NS = 1.5

EMPTY = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)


def bare_calls(number: int) -> bytes:
    """A program that calls an empty function ``number`` times and returns what the last one returned."""
    code = struct.pack("=BBhi", 0xBF, 6 | 1 << 4, 0, 0)
    length = 1 + 2 * number + 1
    for i in range(number):
        at = 2 + 2 * i
        code += struct.pack("=BBhi", 0xBF, 1 | 6 << 4, 0, 0)
        code += struct.pack("=BBhi", 0x85, 1 << 4, 0, length - at - 1)
    return code + struct.pack("=BBhi", 0x95, 0, 0, 0) + EMPTY


def test_cost_of_slots_and_counters(root: None, samples: Path) -> None:
    with contextlib.ExitStack() as held:
        programs = {("alone", 0): held.enter_context(bpf.prog_load(6, EMPTY, name="alone"))}
        for length in LENGTHS:
            bare = bpf.prog_load(6, bare_calls(length), name="bare_calls")
            programs["calls", length] = held.enter_context(bare)
            for kind, counters in (("plain", False), ("counting", True)):
                chain = replace(chain_of(samples, *["pass"] * length), counters=counters)
                built = StaticLinker().build(chain, NOWHERE, Author("", 0, "bench", 0.0))
                held.callback(built.close)
                programs[kind, length] = built.program
        taken = alternate(
            {
                name: lambda program=program: float(bpf.prog_test_run(program, PACKET, REPEAT).ns)
                for name, program in programs.items()
            },
            ROUNDS,
        )
    print(f"\n{'ns a packet':<18}{'median':>8}  middle half")
    for (kind, length), timing in taken.items():
        print(f"{kind:<10}{length or '':>6}  {timing.median:8.1f}  {timing.low:.0f} to {timing.high:.0f}")
    slope = {kind: (taken[kind, 10].low - taken[kind, 1].low) / 9 for kind in ("calls", "plain", "counting")}
    print("ns a step: " + ", ".join(f"{kind} {value:.2f}" for kind, value in slope.items()))
    print(f"a slot: {slope['plain']:.2f} ns (target {SLOT_TARGET_NS}); a call: {slope['calls']:.2f} ns")
    print(f"counters a slot: {slope['counting'] - slope['plain']:.2f} ns (target {COUNTERS_TARGET_NS})")
    assert slope["plain"] <= SLOT_TARGET_NS
    assert slope["counting"] - slope["plain"] <= COUNTERS_TARGET_NS
